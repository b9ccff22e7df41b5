"""The sink for Prometheus: what it tells, to whom, and that nobody can hold it up."""

import logging
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from PIL import Image

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.benchmarks.peers.processes import peer as process
from adae_edge.benchmarks.peers.scraper import scraper
from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime import Event, Scorer, Stream, open_sink, open_source
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.runtime.sinks import prometheus
from adae_edge.runtime.sinks.sink import Listener
from tests.support.models import HANGS_S, command, mean_model, run
from tests.support.peers import peer, peers
from tests.support.streams import frame


def scored(number, score, opened="camera:0", **more):
    return Scored(frame(number), score, 100.0, opened=opened, **more)


@pytest.fixture
def sink():
    with open_sink("prometheus:127.0.0.1:0") as opened:
        yield opened


def scrape(sink):
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=30) as answer:
        return answer.read().decode()


def told(sink):
    """What it tells: value by name with labels."""
    lines = [line for line in scrape(sink).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_each_source_has_its_numbers(sink):
    skipping = Frame("camera:0", 7, 1767323045.5, frame(7).pixels, skipped=4)
    sink.write(scored(0, 50.0, age=0.03, latency=0.0004))
    sink.write(Scored(skipping, 120.0, 100.0, 0.2, opened="camera:0", alarm=True, drift=0.25))
    sink.write(scored(0, 70.0, opened="parts/"))
    values = told(sink)

    def of(name, source="camera:0", **labels):
        labels = "".join(f'{key}="{value}",' for key, value in labels.items())
        return values[f'adae_edge_{name}{{{labels}source="{source}"}}']

    assert (of("frames_total"), of("frames_total", "parts/")) == (2, 1)
    assert (of("anomalous_frames_total"), of("skipped_frames_total")) == (1, 4)
    assert (of("score"), of("threshold"), of("up")) == (120, 100, 1)
    assert of("last_frame_timestamp_seconds") == 1767323045.5
    assert (of("alarm_active"), of("drift_psi")) == (1, 0.25)
    assert 'adae_edge_alarm_active{source="parts/"}' not in values
    assert [of("score_threshold_ratio_bucket", le=le) for le in ("0.4", "0.5", "1.0", "1.2")] == [
        *(0, 1, 1, 2)
    ]
    assert of("score_threshold_ratio_sum") == pytest.approx(1.7)
    assert of("age_seconds_bucket", le="+Inf") == of("age_seconds_count") == 2
    assert of("age_seconds_sum") == pytest.approx(0.23)
    assert of("latency_seconds_bucket", le="0.0005") == 2
    assert values["process_resident_memory_bytes"] > 1e6


def test_events_are_counted_under_their_source(sink):
    def tell(kind, source="parts/7.png", opened="parts/", **more):
        sink.event(Event(source, 0.0, kind, "", opened=opened, **more))

    for kind in ("live", "failure", "failure", "alarm", "stalled", "lost"):
        tell(kind)
    tell("gap", frames=12)
    tell("alarm", over=True)
    tell("sink", "jsonl:rows.jsonl", "")
    values = told(sink)
    names = ("failed_frames", "missed_frames", "alarms", "stalls", "losses", "drifts", "events")
    counts = [values[f'adae_edge_{name}_total{{source="parts/"}}'] for name in names]
    assert counts == [2, 12, 1, 1, 1, 0, 8]
    assert values['adae_edge_up{source="parts/"}'] == 0
    assert values['adae_edge_events_total{source="jsonl:rows.jsonl"}'] == 1
    assert "7.png" not in scrape(sink)
    tell("live")
    assert told(sink)['adae_edge_up{source="parts/"}'] == 1


def test_a_password_is_in_no_label_no_row_and_no_log(sink, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "m.onnx").write_bytes(mean_model())
    rows = tmp_path / "rows.jsonl"
    name = "rtsp://bob:s3cret@127.0.0.1:9/1?token=abcdef"
    with Scorer(tmp_path / "m.onnx") as scorer, open_sink(str(rows)) as kept:
        stream = Stream(scorer, open_source(name), [kept, sink])
        stream.add(Listener(lambda event: stream.stop()))
        stream.run()
    metrics = scrape(sink)
    assert 'adae_edge_up{source="rtsp://***@127.0.0.1:9/1?token=***"} 0' in metrics
    assert '"source": "rtsp://***@127.0.0.1:9/1?token=***"' in rows.read_text()
    for text in (metrics, rows.read_text(), caplog.text):
        assert "s3cret" not in text
        assert "abcdef" not in text


def test_a_threshold_of_zero_has_no_ratio(sink):
    sink.write(Scored(frame(0), 5.0, 0.0, opened="camera:0"))
    values = told(sink)
    assert values['adae_edge_score_threshold_ratio_count{source="camera:0"}'] == 0
    assert values['adae_edge_frames_total{source="camera:0"}'] == 1


def test_promtool_has_nothing_to_say_against_the_names(sink):
    promtool = peer("promtool")
    sink.write(scored(0, 50.0, alarm=False, drift=0.1))
    sink.write(scored(0, 50.0, opened='odd "name"\\\n'))
    sink.event(Event("camera:0", 0.0, "lost", "", opened="camera:0"))
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=scrape(sink), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def wait_until(what):
    deadline = time.monotonic() + HANGS_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_prometheus_server_has_what_the_command_scored(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    port = free_port()
    arguments = ("grey.onnx", "synthetic://?fps=50&size=64x48", "--alarm", "1/1")
    sinks = ("--to", f"prometheus:{port}", "--to", "jsonl:rows.jsonl")
    with (
        peers(),
        scraper(tmp_path, port) as prometheus_server,
        process(command("score", *arguments, *sinks), cwd=tmp_path) as scoring,
    ):
        ask = prometheus_server.ask
        wait_until(lambda: (ask("adae_edge_frames_total") or 0) > 60)
        # a scrape that a busy machine delays has nothing until the next one
        wait_until(lambda: ask("adae_edge_up") == 1)
        wait_until(lambda: ask("adae_edge_threshold") == 100)
        wait_until(lambda: (ask("adae_edge_score") or 0) > 0)
        wait_until(lambda: ask("adae_edge_alarm_active") in (0, 1))
        wait_until(lambda: (ask("sum(scrape_samples_scraped)") or 0) > 60)
        prometheus_server.peer.freeze()  # whoever asks and never reads holds nothing up
        rows = (tmp_path / "rows.jsonl").read_text().count("\n")
        wait_until(lambda: (tmp_path / "rows.jsonl").read_text().count("\n") > rows + 100)
        prometheus_server.peer.thaw()
        seen = ask("adae_edge_frames_total") or 0
        wait_until(lambda: (ask("adae_edge_frames_total") or 0) > max(seen, rows))
        scoring.process.terminate()
        assert scoring.process.wait(HANGS_S) == 0


def test_scrapers_that_never_read_or_speak_are_few_and_let_go(monkeypatch):
    monkeypatch.setattr(prometheus, "_PATIENCE_S", 0.5)
    sink = open_sink("prometheus:0")
    sink.write(scored(0, 50.0))
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(30)]
    for one in silent[:4]:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    wait_until(lambda: threading.active_count() > before)
    assert threading.active_count() <= before + prometheus._MOST_SCRAPERS
    for number in range(1000):
        sink.write(scored(number, 50.0))
    wait_until(lambda: threading.active_count() <= before)  # all are let go, though none closed
    assert told(sink)['adae_edge_frames_total{source="camera:0"}'] == 1001
    for one in silent:
        one.close()
    sink.close()


def test_a_port_that_is_taken_is_one_sentence_before_anything_starts(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    Image.new("L", (8, 6), 50).save(tmp_path / "a.png")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sinks = ("--to", "s.jsonl", "--to", f"prometheus:127.0.0.1:{port}")
        done = run("score", "grey.onnx", "a.png", *sinks, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"adae-edge: cannot listen at 127.0.0.1, port {port}: Address already in use\n"
    )
    assert (tmp_path / "s.jsonl").read_text() == ""


def test_it_listens_at_the_loopback_unless_another_address_is_written_out():
    with open_sink("prometheus:0") as opened:
        assert opened._server.server_address[0] == "127.0.0.1"
    with open_sink("prometheus:0.0.0.0:0") as opened:
        assert opened._server.server_address[0] == "0.0.0.0"
    with open_sink("prometheus:[::1]:0") as opened:
        assert opened._server.server_address[0] == "::1"


def test_a_port_is_free_again_when_the_sink_is_closed():
    with open_sink("prometheus:0") as opened:
        port = opened.port
        with pytest.raises(SinkError, match="Address already in use"):
            open_sink(f"prometheus:{port}")
    opened.close()
    open_sink(f"prometheus:{port}").close()


@pytest.mark.parametrize("place", ["x", "localhost:9188", "1.2.3:9188", ":9188", "70000", "[::1]"])
def test_another_place_is_refused(place):
    with pytest.raises(UsageError, match="prometheus takes ADDRESS:PORT"):
        open_sink(f"prometheus:{place}")
