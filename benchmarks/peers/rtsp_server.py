#!/usr/bin/python3
"""An RTSP server whose picture says when it was made; for the system's Python, which has gi.

The picture is 8 by 6 blocks, black or white: 24 bits of a number, the highest first, and then the
same bits inverted. Frame N was made at ``--base`` plus N / ``--fps`` seconds, so a server that is
started again goes on counting. SIGUSR1 stops the picture, and a second one lets it go on.
"""

import argparse
import signal
import threading
import time
from collections.abc import Callable

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found] # noqa: E402

COLUMNS, ROWS, BITS = 8, 6, 24
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={key}"
    " ! rtph264pay name=pay0 pt=96 config-interval=1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max={key}"
    " ! rtph265pay name=pay0 pt=96 config-interval=1",
    "mjpeg": "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
}
SOUND = (
    " appsrc name=sound is-live=true do-timestamp=true format=time"
    " caps=audio/x-alaw,rate=8000,channels=1 ! rtppcmapay name=pay1 pt=8"
)
PAUSE_S = 0.05  # between two pieces of silence


def picture(number: int, width: int, height: int) -> bytes:
    """The planes Y, U and V of a numbered picture; width and height are even."""
    bits = format(number % (1 << BITS), f"0{BITS}b")
    values = [235 if bit == "1" else 16 for bit in bits]
    values += [251 - value for value in values]
    luma = bytearray()
    for row in range(ROWS):
        blocks = values[row * COLUMNS : (row + 1) * COLUMNS]
        line = b"".join(
            bytes([value]) * ((column + 1) * width // COLUMNS - column * width // COLUMNS)
            for column, value in enumerate(blocks)
        )
        luma += line * ((row + 1) * height // ROWS - row * height // ROWS)
    return bytes(luma) + bytes([128]) * (width * height // 2)


class Numbers:
    """Pushes numbered pictures into every media, at their times."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.base, self.fps = arguments.base or time.time(), arguments.fps
        self.width, self.height = map(int, arguments.size.split("x"))
        self.paused = False

    def source(self) -> str:
        """The start of the pipeline."""
        size = f"width={self.width},height={self.height},framerate={self.fps}/1"
        caps = f"video/x-raw,format=I420,{size}"
        return f"appsrc name=numbers is-live=true do-timestamp=true format=time caps={caps}"

    def configure(self, factory: object, media: object) -> None:
        """Start to push into a media that a client asked for."""
        pushes = {"numbers": self.push, "sound": self.push_silence}
        for name, push in pushes.items():
            element = media.get_element().get_by_name(name)  # type: ignore[attr-defined]
            if element is not None:
                threading.Thread(target=self.begin, args=(push, element), daemon=True).start()

    def begin(self, push: Callable[[object], None], element: object) -> None:
        """Push once the media plays.

        A buffer that comes while it starts may be stamped with the hours that the machine is up,
        and the media waits as long before it sends it.
        """
        while element.get_state(0)[1] != Gst.State.PLAYING:  # type: ignore[attr-defined]
            time.sleep(0.005)
        push(element)

    def push(self, element: object) -> None:
        """Push until the media is gone."""
        number = int((time.time() - self.base) * self.fps) + 1
        while True:
            time.sleep(max(0.0, self.base + number / self.fps - time.time()))
            if not self.paused:
                buffer = Gst.Buffer.new_wrapped(picture(number, self.width, self.height))
                result = element.emit("push-buffer", buffer)  # type: ignore[attr-defined]
                if result != Gst.FlowReturn.OK:
                    return
            number = max(number + 1, int((time.time() - self.base) * self.fps))

    def push_silence(self, element: object) -> None:
        """Push sound in which nothing is heard until the media is gone."""
        result = Gst.FlowReturn.OK
        while result == Gst.FlowReturn.OK:
            time.sleep(PAUSE_S)
            buffer = Gst.Buffer.new_wrapped(bytes([0xD5]) * int(8000 * PAUSE_S))
            result = element.emit("push-buffer", buffer)  # type: ignore[attr-defined]


def launch_line(arguments: argparse.Namespace, numbers: Numbers) -> str:
    """What the server sends, for gst-launch."""
    if arguments.launch:
        return str(arguments.launch)
    if arguments.clip:
        form = "video/x-h264,stream-format=byte-stream"
        loop = "false" if arguments.once else "true"
        return (
            f"( multifilesrc location={arguments.clip} loop={loop} "
            f'caps="{form},framerate={arguments.fps}/1" ! h264parse'
            " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
    chroma = " ! videoconvert ! video/x-raw,format=Y444" if arguments.chroma == "444" else ""
    full = " ! videoconvert ! video/x-raw,colorimetry=1:4:0:0" if arguments.full_range else ""
    encoder = ENCODERS[arguments.codec].format(key=arguments.key)
    sound = SOUND if arguments.sound else ""
    return f"( {numbers.source()}{chroma}{full} ! {encoder}{sound} )"


def protect(server: object, factory: object, arguments: argparse.Namespace) -> None:
    """Ask for a user and a password, and speak TLS, where that was asked for."""
    if not (arguments.user or arguments.certificate):
        return
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "reader")
    if arguments.user:
        basic = GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password)
        auth.add_basic(basic, token)
    else:
        auth.set_default_token(token)
    if arguments.certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(arguments.certificate))
    server.set_auth(auth)  # type: ignore[attr-defined]
    # gi cannot call add_role with its variable arguments: from a structure it can
    role = Gst.Structure.new_from_string(
        "reader, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    )
    factory.add_role_from_structure(role)  # type: ignore[attr-defined]


def serve(arguments: argparse.Namespace) -> None:
    """Serve until the process is ended; prints "ready" once the port is open."""
    Gst.init(None)
    numbers = Numbers(arguments)
    server = GstRtspServer.RTSPServer()
    server.set_address(arguments.address)
    server.set_service(str(arguments.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch_line(arguments, numbers))
    factory.set_shared(True)
    kinds = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}
    transports = [kinds[name] for name in arguments.transports.split(",")]
    factory.set_protocols(transports[0] | transports[-1])
    factory.connect("media-configure", numbers.configure)
    protect(server, factory, arguments)

    def mount() -> bool:
        server.get_mount_points().add_factory(arguments.path, factory)
        return False

    if arguments.path_after:
        GLib.timeout_add(int(arguments.path_after * 1000), mount)
    else:
        mount()

    def pause() -> bool:
        numbers.paused = not numbers.paused
        return True

    on_signal: Callable[..., int] = GLib.unix_signal_add
    on_signal(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, pause)
    if server.attach(None) == 0:
        raise SystemExit(f"port {arguments.port} cannot be opened")
    print("ready", flush=True)
    GLib.MainLoop().run()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/cam")
    parser.add_argument("--path-after", type=float, help="seconds until the path is there")
    parser.add_argument("--base", type=float, help="time of frame 0; the start without it")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--codec", choices=list(ENCODERS), default="h264")
    parser.add_argument("--key", type=int, default=30, help="frames from key frame to key frame")
    parser.add_argument("--chroma", choices=["420", "444"], default="420")
    parser.add_argument("--full-range", action="store_true")
    parser.add_argument("--sound", action="store_true")
    parser.add_argument("--clip", help="an H.264 file without container, in place of numbers")
    parser.add_argument("--once", action="store_true", help="the clip does not begin again")
    parser.add_argument("--launch", help="a pipeline with an element pay0, in place of numbers")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--certificate", help="a PEM file of certificate and key, for rtsps")
    parser.add_argument("--transports", default="tcp,udp")
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
