"""The command beside an RTSP server whose frames are numbered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect, judge_live
from adae_edge.benchmarks.peers.processes import Peer, free_port, start_rtsp_server

STARTS_S = 30  # until the first rows
NOTICED_S = 20  # until a source that is silent is told of
_OPENING = "is being opened"
BACK_S = 40  # until there are rows again: the longest pause, opening, and a busy machine


@dataclass
class Camera:
    """An RTSP server that can go away and come back at its port.

    Attributes:
        base: the time of frame 0, over all restarts.
        options: of the server.
        before: what starts it, as ``ip netns exec``.
    """

    port: int = field(default_factory=free_port)
    base: float = field(default_factory=time.time)
    options: dict[str, object] = field(default_factory=dict)
    before: Sequence[object] = ()
    server: Peer | None = None

    @property
    def url(self) -> str:
        """What the command is given."""
        return f"rtsp://{self.options.get('address', '127.0.0.1')}:{self.port}/cam"

    def begin(self, **options: object) -> None:
        """Start the server, or start it again, with further options."""
        self.options |= options
        options = {"base": self.base, **self.options}
        self.server = start_rtsp_server(self.port, options, self.before)

    @property
    def peer(self) -> Peer:
        """The server's process."""
        assert self.server is not None, "it was not begun"
        return self.server


@contextmanager
def camera(before: Sequence[object] = (), **options: object) -> Iterator[Camera]:
    """A server within the block."""
    one = Camera(before=before)
    one.begin(**options)
    try:
        yield one
    finally:
        one.peer.kill()


@contextmanager
def watching(lab: Lab, one: Camera) -> Iterator[Run]:
    """The command over a camera, after its first rows."""
    with lab.score(one.url) as run:
        run.wait_for_rows(10, STARTS_S)
        yield run


def stop(run: Run, one: Camera, seen: str, age: float | None = 1.0) -> Seen:
    """End a run over a camera by SIGTERM, which is how it ends well, and judge its rows."""
    code = run.end()
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    fps = one.options.get("fps", 30)
    assert isinstance(fps, int)
    return judge_live(run, one.base, seen, fps, age)


def wait_to_notice(
    run: Run, limit: float = NOTICED_S, since: int | None = None
) -> tuple[float, str]:
    """Wait until more is said than that it opens, after the first ``since`` sentences.

    Returns:
        The seconds that it took, and what was said.
    """
    before = len(run.said) if since is None else since

    def news() -> list[str]:
        lines = [line for _, line in run.said[before:]]
        return [line.removeprefix("adae-edge: ") for line in lines if _OPENING not in line]

    seconds = run.wait_for("sentence", news, limit)
    return seconds, news()[0]
