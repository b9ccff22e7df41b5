"""``adae-edge run``: a station's file is checked whole, and its streams run as a service."""

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from adae_edge import errors
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.cli.app import app
from adae_edge.cli.station import check_parts, open_streams, read_station, shown
from adae_edge.errors import AdaeEdgeError, UsageError
from tests.support.models import command, complaints, frame_rows, mean_model, run
from tests.support.supervisor import Supervisor

ONE = '[[stream]]\nmodel = "m.onnx"\nsource = "synthetic://?frames=3"\nto = "rows.jsonl"\n'
CAMERA = ONE.replace("?frames=3", "")
TABLE = ONE.replace("rows.jsonl", "terminal")
WATCHING = (
    '[[stream]]\nmodel = "m.onnx"\nsource = "watch:incoming"\nto = ["rows.jsonl"]\nresume = true\n'
)
# Runs the service with a scorer that hangs once, at its third picture.
HANGING = """
import time
from pathlib import Path
from adae_edge.runtime.scorer import Scorer
score, seen = Scorer.score, []
def hang(self, *arrays):
    seen.append(arrays)
    if len(seen) == 3 and not Path("hung").exists():
        Path("hung").touch()
        time.sleep(600)
    return score(self, *arrays)
Scorer.score = hang
from adae_edge.cli import main
main()
"""
# Runs the service with a file system that hangs once.
STUCK = """
import time
from pathlib import Path
from adae_edge.runtime.sources import files
decode = files.decode_shrunk
def stuck(*arguments):
    if not Path("stuck").exists():
        Path("stuck").touch()
        time.sleep(600)
    return decode(*arguments)
files.decode_shrunk = stuck
from adae_edge.cli import main
main()
"""
# Runs the service with a camera that never gives a frame.
SILENT = """
import time
from adae_edge.runtime import Source
from adae_edge.runtime.sources import camera
class Camera(Source):
    live = endless = True
    def __init__(self, place, wanted):
        self.place = place
    def __iter__(self):
        while not self._stopping:
            time.sleep(0.01)
        yield from ()
camera.SOURCE = Camera
from adae_edge.cli import main
main()
"""


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    (tmp_path / "incoming").mkdir()
    return tmp_path


def station(folder, text):
    (folder / "station.toml").write_text(text)
    return folder


def rows(path):
    return frame_rows(path) if path.exists() else []


def put(folder, *numbers):
    """Lay pictures into a watched folder, each in one step."""
    for number in numbers:
        Image.new("L", (8, 6), 50).save(folder / f".{number}.png")
        (folder / f".{number}.png").rename(folder / f"{number}.png")


def test_streams_of_a_file_run_side_by_side_into_one_sink(desk):
    more = ONE.replace("frames=3", "frames=4&seed=2").replace("m.onnx", "./m.onnx")
    done = run("run", "station.toml", cwd=station(desk, f"{ONE}\n{more}"))
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "stream 1: 3 frames scored",
        "stream 2: 4 frames scored",
    ]
    found = rows(desk / "rows.jsonl")
    for name, count in (("synthetic://?frames=3", 3), ("synthetic://?frames=4&seed=2", 4)):
        assert [row["frame"] for row in found if row["source"] == name] == list(range(count))


def test_one_port_has_the_numbers_of_every_stream_however_they_keep_rows(desk, monkeypatch):
    monkeypatch.chdir(desk)
    port = free_port()
    first = ONE.replace('"rows.jsonl"', f'["rows.jsonl", "prometheus:127.0.0.1:{port}"]')
    second = ONE.replace("frames=3", "frames=4").replace(
        "rows.jsonl", f"prometheus:127.0.0.1:{port}"
    )
    path = station(desk, f"{first}resume = true\n{second}") / "station.toml"
    with open_streams(path, read_station(path), lambda event: None) as streams:
        for stream in streams:
            stream.run()
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asked.request("GET", "/metrics")
        with asked.getresponse() as answer:
            told = answer.read().decode()
        asked.close()
    for count in (3, 4):
        assert f'frames_total{{source="synthetic://?frames={count}"}} {count}.0' in told


def test_check_prints_all_of_it_with_defaults_and_opens_no_sink(desk, monkeypatch):
    text = (
        '[[stream]]\nmodel = "m.onnx"\nsource = ["rtsp://v:${credential:gate}@10.0.0.5/1"]\n'
        'to = ["sqlite:${ROWS}", "terminal"]\nmax-latency = "50ms"\nthreads = 2\nexact = true\n'
        'alarm = "3/10"\n'
    )
    (desk / "gate").write_text("s3cret-word\n")
    environment = {"CREDENTIALS_DIRECTORY": str(desk), "ROWS": "rows.sqlite"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(errors, "_secrets", set())
    done = run("run", "station.toml", "--check", cwd=station(desk, text), **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3cret-word" not in done.stdout
    assert not (desk / "rows.sqlite").exists()
    assert "# threshold: the model's\n" in done.stdout
    assert "# jobs: one picture; a DICOM file on each CPU" in done.stdout
    # What it prints is a station's file that says the same.
    (desk / "again.toml").write_text(done.stdout)
    again, first = read_station(desk / "again.toml"), read_station(desk / "station.toml")
    assert [plan.options for plan in again] == [plan.options for plan in first]
    assert first[0].options["alarm"] == "3/10"


def test_the_secret_in_a_webhooks_path_is_not_printed(desk, monkeypatch):
    monkeypatch.setenv("HOOK", "y")
    hooks = ["https://hooks.example.org/services/T0/s3cret", "https://host/x/${HOOK}"]
    source = 'gst:souphttpsrc extra-headers="h,authorization=(string)s3cret" ! jpegdec'
    text = f"[[stream]]\nmodel = 'm.onnx'\nsource = '{source}'\nto = {hooks}\n"
    plans = read_station(station(desk, text) / "station.toml")
    assert "s3cret" not in shown(plans)
    assert '["https://hooks.example.org/services/***", "https://host/x/${HOOK}"]' in shown(plans)


def test_every_option_of_score_is_a_key(desk):
    score = typer.main.get_command(app).commands["score"]
    keys = run("run", "station.toml", cwd=station(desk, f"{ONE}colour = 1\n")).stderr
    assert [*keys.partition("its keys are ")[2].strip().split(", ")] == [
        parameter.opts[0].removeprefix("--") for parameter in score.params
    ]


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[[stream]\n", 1, "Expected"),
        (f"{ONE}{ONE[11:]}", 5, "Cannot overwrite a value"),
        (f"{ONE}colour = 1\n", 5, "a stream has no colour: its keys are model, source, to, "),
        (f"{ONE}Max_latency = 1\n", 5, "no Max_latency: did you mean max-latency? Its keys are"),
        (f"[[streams]]\n{ONE}", 1, "only streams, each under [[stream]], and no streams"),
        (f'{ONE}alarm = ""\n', 5, "--alarm takes K/N"),
        (f'model = "m.onnx"\n{ONE}', 1, "model stands before the first [[stream]]"),
        (f"[limits]\n{ONE}", 1, "only streams, each under [[stream]], and no limits"),
        ('[stream]\nmodel = "m.onnx"\n', 1, "only streams, each under [[stream]]"),
        ('\n\n[[stream]]\nmodel = "m.onnx"\n', 3, "the stream has no source"),
        (ONE.replace("m.onnx", "no.onnx"), 2, "there is no model file no.onnx"),
        (ONE.replace("synthetic://?frames=3", "nowhere.png"), 3, "there is no source nowhere.png"),
        (ONE.replace("rows.jsonl", "a/b/rows.jsonl"), 4, "a/b"),
        (ONE.replace("rows.jsonl", "rows.txt"), 4, "there is no sink rows.txt"),
        (ONE.replace("rows.jsonl", "jsonl:${NOT_SET}"), 4, "environment variable NOT_SET"),
        (ONE.replace("rows.jsonl", "jsonl:m.onnx"), 4, "m.onnx"),
        (f"{ONE}threads = 0\n", 5, "threads: "),
        (f"{ONE}threads = true\n", 5, "threads takes one text or number"),
        (f"{ONE}exact = 1\n", 5, "exact takes true or false"),
        (f"{ONE}max-latency = 20\n", 5, "--max-latency takes a time such as 20ms"),
        (f'{ONE}alarm = "3"\n', 5, "--alarm takes K/N"),
        (f"{ONE}to2 = 1\n", 5, "a stream has no to2"),
        (ONE.replace('"rows.jsonl"', "[]"), 4, "to has nothing in it"),
        (f"{ONE}alarm = {{}}\n", 5, "alarm takes one text or number"),
        (f"{ONE}threshold = inf\n", 5, "inf is none to compare with"),
        (f'{ONE}quiet = "5s"\n', 5, "--quiet is for dicom-scp"),
        (f'{ONE}tls-ca = "ca.pem"\n', 5, "--tls-ca go with --spool"),
        (f'{ONE}spool = "spool"\n', 5, "--spool is for DICOM over the network"),
        (f"{ONE}triggered = true\n", 5, "--triggered is for cameras, and no source is one"),
        (f"{CAMERA}jobs = 2\n", 5, "--jobs is for files, and no source gives any"),
        (f"{CAMERA}resume = true\n", 5, "--resume is for files and folders"),
        (f'{TABLE}rotate = ""\n', 5, "--rotate takes a size such as 100MB"),
        (f'{TABLE}rotate = "1MB"\n', 5, "--rotate is for files of rows: give jsonl:FILE or csv:"),
        (f"{TABLE}fsync = true\n", 5, "--fsync is for rows, and no sink keeps any"),
        (f"{TABLE}resume = true\n", 5, "--resume reads what is kept already"),
        (f"{ONE}{ONE}", 7, "is a source twice, first in line 3"),
        (
            f"{ONE}{ONE.replace('frames=3', 'frames=4')}fsync = true\n",
            8,
            "rows in rows.jsonl are kept in another way than by line 4",
        ),
        (
            '[[stream]]\nmodel = "m.onnx"\nsource = [\n  "synthetic://",\n'
            '  "rtsp://bob:s3cret@10.0.0.5/1",\n]\n',
            5,
            "source has a password in the open: put ${NAME} or ${credential:NAME} in its place",
        ),
        (
            '[[stream]]\nmodel = "m.onnx"\nsource = [\n  "synthetic://",\n  "nowhere.png",\n]\n',
            5,
            "there is no source nowhere.png",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_line_before_anything_starts(
    desk, monkeypatch, text, line, sentence
):
    station(desk, text)
    monkeypatch.chdir(desk)
    path = Path("station.toml")
    with pytest.raises(AdaeEdgeError) as refused, open_streams(path, read_station(path), print):
        pass
    said = str(refused.value)
    if "holds something else" not in said:  # for which the file is opened
        with pytest.raises(AdaeEdgeError, match=re.escape(said)):
            check_parts(path, read_station(path))
    assert said.startswith(f"station.toml, line {line}: ")
    assert sentence in said
    assert "s3cret" not in said
    assert "\n" not in said
    assert rows(desk / "rows.jsonl") == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("watch:incoming", "watch:./incoming/"),
        ("watch:incoming", "incoming"),
        ("rtsp://camera/1", "rtsp://CAMERA:554/1"),
        ("rtsp://camera/1", "rtsp://b@camera/1#udp"),
        ("http://camera/mjpg?channel=1", "http://camera:80/mjpg?channel=1"),
        ("rtsp://localhost/1", "rtsp://[::1]:554/1"),
        ("7", "camera:7"),
    ],
)
def test_another_spelling_is_no_other_source(desk, monkeypatch, first, second):
    (desk / "incoming").mkdir(exist_ok=True)
    monkeypatch.chdir(desk)
    streams = [f'[[stream]]\nmodel = "m.onnx"\nsource = "{source}"\n' for source in (first, second)]
    with pytest.raises(UsageError, match=r"line 6: .* is a source twice, first in line 3"):
        read_station(station(desk, "".join(streams)) / "station.toml")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("rows.jsonl", "jsonl:./rows.jsonl"),
        ("sqlite:rows.db", "linked.db"),
        ("pictures:normal?limit=1GB", "pictures:./linked?limit=1GB"),
        ("video:v.mp4?minutes=1", "video:incoming/../v.mp4?minutes=1"),
        ("prometheus:9188", "prometheus:127.0.0.1:9188"),
        ("prometheus:[::1]:9188", "prometheus:[0:0::1]:9188"),
        ("mqtt://localhost", "mqtt://127.0.0.1:1883?topic=adae-edge"),
        (
            "https://HOOKS.example/a#full=oldest&limit=1MB",
            "https://hooks.example:443/a#limit=1MB&full=oldest",
        ),
        ("dicom://PACS@10.0.0.7", "dicom://PACS@10.0.0.7:104"),
    ],
)
def test_another_spelling_is_no_other_sink(desk, monkeypatch, first, second):
    (desk / "normal").mkdir()
    (desk / "linked").symlink_to("normal")
    (desk / "linked.db").symlink_to("rows.db")
    monkeypatch.chdir(desk)
    text = ONE.replace("rows.jsonl", first) + ONE.replace("rows.jsonl", second)
    text = text.replace("frames=3", "frames=4", 1)
    path = station(desk, text) / "station.toml"
    check_parts(path, read_station(path))
    both = ONE.replace('"rows.jsonl"', f'["{first}", "{second}"]')
    path = station(desk, both) / "station.toml"
    with pytest.raises(UsageError, match="line 4: a sink is named twice"):
        check_parts(path, read_station(path))


@pytest.mark.parametrize("source", ["watch:incoming", "incoming", "./incoming/"])
@pytest.mark.parametrize("folder", ["incoming", "linked/pictures?limit=1GB"])
def test_pictures_are_not_saved_where_they_are_scored(desk, monkeypatch, source, folder):
    put(desk / "incoming", 1)
    (desk / "linked").symlink_to("incoming")
    monkeypatch.chdir(desk)
    sink = f"pictures:{folder}"
    apart = ONE.replace("synthetic://?frames=3", source) + ONE.replace("rows.jsonl", sink)
    with pytest.raises(UsageError, match=re.escape(f"line 8: {sink} would be scored, too")):
        read_station(station(desk, apart) / "station.toml")
    done = run("score", "m.onnx", source, "--to", sink, cwd=desk)
    assert (done.returncode, len(complaints(done))) == (2, 1)
    assert len([*(desk / "incoming").iterdir()]) == 1


def test_two_receivers_have_no_port_and_no_spool_together(desk):
    one = '[[stream]]\nmodel = "m.onnx"\nsource = "dicom-scp://127.0.0.1:11113/A"\nspool = "s"\n'
    for other, said in (
        (one.replace('"s"', '"t"').replace("127.0.0.1", "localhost"), "line 7: .* a source twice"),
        (one.replace('"s"', '"./s"').replace("11113", "11114"), "line 8: .* a spool twice, first"),
    ):
        with pytest.raises(UsageError, match=said):
            read_station(station(desk, one + other) / "station.toml")


def test_nothing_is_opened_before_every_sink_was_looked_at(desk, monkeypatch):
    monkeypatch.chdir(desk)
    second = ONE.replace("frames=3", "frames=4").replace("rows.jsonl", "no/rows.jsonl")
    path = station(desk, ONE + second) / "station.toml"
    with pytest.raises(UsageError, match="line 8: "), open_streams(path, read_station(path), print):
        pass
    assert not (desk / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("jsonl:rows", "csv:./rows"),
        ("pictures:p?limit=1GB", "pictures:./p"),
        ("prometheus:9188", "prometheus:0.0.0.0:9188"),
        ("prometheus:127.0.0.1:9188", "prometheus:[::]:9188"),
        ("mqtt://localhost", "mqtt://127.0.0.1?version=3.1.1"),
        ("http://localhost/rows", "http://[::1]:80/rows#limit=1MB"),
    ],
)
def test_one_place_is_not_written_in_two_ways(desk, monkeypatch, first, second):
    monkeypatch.chdir(desk)
    text = ONE.replace("rows.jsonl", first) + ONE.replace("rows.jsonl", second)
    path = station(desk, text.replace("frames=3", "frames=4", 1)) / "station.toml"
    with pytest.raises(UsageError) as refused:
        check_parts(path, read_station(path))
    said = f"{path}, line 8: {second} is written by line 4, too, in another way"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("sink", "sentence"),
    [
        ("no/rows.jsonl", "cannot write no/rows.jsonl: there is no folder "),
        ("sqlite:no/rows.db", "cannot write no/rows.db: there is no folder "),
        ("csv:https://host/rows", "is a URL"),
        ("mqtt://host?topik=a", "has the option topik, and can have "),
        ("mqtt://host:99999", "is no URL: Port out of range"),
        ("jsonl:incoming", "cannot write incoming: it is a folder"),
        ("sqlite:incoming", "cannot write incoming: it is a folder"),
        ("mqtt://host?spool=no", "mqtt://host?spool=no has no folder no for its spool"),
        ("mqtts://host?ca=no.pem", "cannot read certificates from no.pem"),
        ("http://10.0.0.1/rows", "is not encrypted, and another machine"),
        ("https://host/rows#limit=0", "limit in https://host/rows takes a size"),
        ("dicom://10.0.0.7", "has no AE title"),
        ("dicomweb:ftp://10.0.0.7/a", "is no web service"),
        ("prometheus:localhost:9188", "prometheus takes ADDRESS:PORT"),
        ("prometheus:99999", "prometheus takes ADDRESS:PORT"),
        ("mqtt://host:0", "is no URL: there is no port 0"),
        ("pictures:?limit=1GB", "pictures:?limit=1GB has no folder: give pictures:DIR"),
        ("pictures:no/pictures", "there is no folder no"),
        ("pictures:m.onnx", "it is there, and no folder"),
        ("video:v.mp4?minutes=0", "takes minutes, above 0"),
        ("video:v.avi", "a video is written as MP4"),
    ],
)
def test_a_check_looks_at_sinks_and_makes_nothing(desk, monkeypatch, sink, sentence):
    monkeypatch.chdir(desk)
    before = sorted(desk.iterdir())
    path = station(desk, f'{ONE}[[stream]]\nmodel = "m.onnx"\nsource = "0"\nto = "{sink}"\n')
    path /= "station.toml"
    with pytest.raises(UsageError) as refused:
        check_parts(path, read_station(path))
    assert str(refused.value).startswith(f"{path}, line 8: ")
    assert sentence in str(refused.value)
    assert set(desk.iterdir()) - {path} == set(before) - {path}


def test_the_command_says_it_and_ends_with_its_exit_code(desk):
    done = run("run", "station.toml", cwd=station(desk, f"{ONE}colour = 1\n"))
    (said,) = complaints(done)
    assert said.startswith("station.toml, line 5: a stream has no colour: its keys are model, ")
    assert done.returncode == 2
    assert not (desk / "rows.jsonl").exists()


@pytest.mark.parametrize("text", ["", "# nothing\n", "x = '''", b"\xff"])
def test_what_is_no_station_is_one_sentence(desk, text):
    path = desk / "station.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as refused:
        read_station(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_pipe_is_no_station_and_is_not_waited_for(desk):
    os.mkfifo(desk / "pipe.toml")
    with pytest.raises(UsageError, match=r"pipe.toml is no file"):
        read_station(desk / "pipe.toml")


def test_a_bad_frame_is_told_and_the_exit_code_says_so(desk):
    (desk / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = ONE.replace("synthetic://?frames=3", "bad.png").replace("rows.jsonl", "other.jsonl")
    done = run("run", "station.toml", cwd=station(desk, f"{bad}{ONE}"))
    assert done.returncode == 1
    assert len(rows(desk / "rows.jsonl")) == 3


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_of_the_start_of_models_and_of_the_end(desk, abstract):
    call = command("run", "station.toml")
    station(desk, WATCHING)
    with Supervisor(call, desk, abstract=abstract) as service:
        service.until_told("READY", "1")
        put(desk / "incoming", 1)
        service.until(lambda: len(rows(desk / "rows.jsonl")) == 1)
        (desk / "new.onnx").write_bytes(mean_model(threshold=7.0))
        (desk / "new.onnx").replace(desk / "m.onnx")
        service.process.send_signal(signal.SIGHUP)
        service.until_told("READY", "1")
        at = service.told.index(("RELOADING", "1"))
        assert service.told[at + 1][0] == "MONOTONIC_USEC"
        put(desk / "incoming", 2)
        service.until(lambda: len(rows(desk / "rows.jsonl")) == 2)
        assert service.end() == 0
    assert [row["threshold"] for row in rows(desk / "rows.jsonl")] == [100.0, 7.0]
    assert service.told[-1] == ("STOPPING", "1")
    status = dict(service.told)["STATUS"]
    assert "1 of 1 streams run" in status
    assert service.starts == 1


def test_a_refused_model_ends_the_reload_too(desk):
    station(desk, WATCHING)
    with Supervisor(command("run", "station.toml"), desk) as service:
        service.until_told("READY", "1")
        (desk / "m.onnx").write_bytes(b"no model")
        service.process.send_signal(signal.SIGHUP)
        service.until_told("READY", "1")
        assert service.end() == 0
    assert "the model stays as it is" in service.errors


def test_a_stopped_service_is_started_again_and_goes_on_with_the_next_frame(desk):
    station(desk, WATCHING)
    with Supervisor(command("run", "station.toml"), desk, watchdog_s=3) as service:
        put(desk / "incoming", *range(5))
        service.until(lambda: len(rows(desk / "rows.jsonl")) == 5)
        before = (desk / "rows.jsonl").read_bytes()
        os.kill(service.process.pid, signal.SIGSTOP)
        put(desk / "incoming", *range(5, 10))
        service.until(lambda: len(rows(desk / "rows.jsonl")) == 10)
        assert service.end() == 0
    assert service.starts > 1
    assert (desk / "rows.jsonl").read_bytes().startswith(before)
    names = [row["source"] for row in rows(desk / "rows.jsonl")]
    assert sorted(names) == sorted(f"incoming/{number}.png" for number in range(10))


def test_a_loop_that_hangs_gives_no_sign_of_life_though_the_process_lives(desk):
    station(desk, WATCHING)
    call = [sys.executable, "-c", HANGING, "run", "station.toml"]
    with Supervisor(call, desk, watchdog_s=3) as service:
        service.until_told("READY", "1")
        for number in range(6):
            put(desk / "incoming", number)
            service.until(lambda least=number: len(rows(desk / "rows.jsonl")) > least)
        assert service.end() == 0
    assert service.starts > 1
    assert "stream 1 hangs: it has not moved for 1.5 s" in service.errors
    names = [row["source"] for row in rows(desk / "rows.jsonl")]
    assert sorted(names) == [f"incoming/{number}.png" for number in range(6)]


@pytest.mark.parametrize("source", ["watch:incoming", "incoming"])
def test_a_file_that_cannot_be_read_to_its_end_is_a_hang(desk, source):
    put(desk / "incoming", 0)
    station(desk, WATCHING.replace("watch:incoming", source))
    call = [sys.executable, "-c", STUCK, "run", "station.toml"]
    with Supervisor(call, desk, watchdog_s=3) as service:
        service.until(lambda: len(rows(desk / "rows.jsonl")) == 1)
        assert service.starts > 1
    assert "stream 1 hangs: it has not moved for 1.5 s" in service.errors


def test_a_camera_that_is_silent_is_no_hang(desk):
    station(desk, ONE.replace("synthetic://?frames=3", "camera:0"))
    call = [sys.executable, "-c", SILENT, "run", "station.toml"]
    with Supervisor(call, desk, watchdog_s=3) as service:
        service.until_told("WATCHDOG", "1", more=6)
        assert service.end() == 0
    assert service.starts == 1


def test_the_second_signal_ends_a_service_at_once(desk):
    station(desk, WATCHING)
    call = [sys.executable, "-c", HANGING, "run", "station.toml"]
    with Supervisor(call, desk) as service:
        service.until_told("READY", "1")
        for number in range(2):
            put(desk / "incoming", number)
            service.until(lambda least=number: len(rows(desk / "rows.jsonl")) > least)
        put(desk / "incoming", 2)
        service.until(lambda: (desk / "hung").exists())
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(0.5)
        assert service.end() == -signal.SIGTERM


def test_a_manager_that_is_gone_stops_nothing(desk):
    done = run("run", "station.toml", cwd=station(desk, ONE), NOTIFY_SOCKET=str(desk / "gone"))
    assert done.returncode == 0
    assert "the service manager cannot be reached" in done.stderr
