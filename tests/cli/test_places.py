"""Places that cannot be written are known before the work, and words that are printed are safe."""

import errno
import logging
import shlex
import tempfile
import traceback
from itertools import islice
from unittest.mock import Mock

import numpy as np
import pytest

from adae_edge.benchmarks import bench
from adae_edge.cli import train as commands
from adae_edge.errors import (
    AdaeEdgeError,
    SinkError,
    UsageError,
    WriteError,
    command,
    without_password,
)
from adae_edge.export import engine, exporter
from adae_edge.formats.files import check_writable
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sources.registry import open_source
from adae_edge.train import report
from adae_edge.train.request import TrainRequest, prepare
from tests.support.pictures import noise, save

SECRETS = ("s3cret", "pa ss", "p@ss/w:rd")


def untouched(*arguments, **options):
    pytest.fail("the work began")


@pytest.mark.parametrize("place", ["nowhere/file", "folder", "file/below", "loop", "link"])
def test_every_command_knows_a_place_that_cannot_be_written_before_it_works(
    tmp_path, monkeypatch, place
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("nowhere/file")
    out = tmp_path / place
    for module, name in (
        (bench, "Scorer"),
        (exporter, "load_network"),
        (engine, "built_plan"),
        (report, "evaluate"),
        (report.Checkpoint, "load"),
    ):
        monkeypatch.setattr(module, name, untouched)
    model, checkpoint = tmp_path / "m.onnx", tmp_path / "c.safetensors"
    for work in (
        lambda: bench.run_bench(bench.BenchRequest(model, json_file=out)),
        lambda: bench.run_bench(bench.BenchRequest(model, markdown_file=out)),
        lambda: exporter.export(checkpoint, out),
        lambda: report.run_evaluation(checkpoint, None, tmp_path / "file"),
        lambda: report.run_evaluation(checkpoint, None, tmp_path / "file" / "below"),
        lambda: prepare(TrainRequest(data=str(tmp_path / "folder"), out=out)),
        lambda: open_sink(f"jsonl:{out}"),
        lambda: open_sink(f"csv:{out}"),
        lambda: open_sink(f"sqlite:{out}"),
    ):
        with pytest.raises((UsageError, SinkError)) as refused:
            work()
        assert "the work began" not in str(refused.value)


def test_a_folder_that_is_to_be_made_needs_one_above_it_that_can_be_written(tmp_path, monkeypatch):
    check_writable(tmp_path / "a" / "b" / "c", folder=True)
    check_writable(tmp_path / "file")
    check_writable(None)
    refuses = PermissionError(errno.EACCES, "not permitted")  # root may write everywhere
    monkeypatch.setattr(tempfile, "TemporaryFile", Mock(side_effect=refuses))
    with pytest.raises(WriteError, match="read-only"):
        check_writable(tmp_path / "a" / "b", folder=True)
    with pytest.raises(WriteError, match="read-only"):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    [
        b'{\n  "a": 1\n}\n',
        b'{"a": 1}\n',
        b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n',
        b'{"source": "a", "frame": 0}\n',
        b'{"source": "a", "frame": 0, "time": ""} trailing\n',
        b'["source"]\n',
        b'"source"\n',
        b"source,frame\n",
        b"\n",
        b"{",
        b"\xff\xfe{",
    ],
)
def test_other_json_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(SinkError, match="something else"):
        open_sink(f"jsonl:{path}")
    assert path.read_bytes() == content


def test_rows_of_an_older_version_go_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = '{"source": "a", "frame": 0, "time": "", "score": 1.5, "threshold": 1, "verdict": "x"}\n'
    path.write_text(row)
    open_sink(str(path)).close()
    assert path.read_text() == row


@pytest.mark.parametrize(
    "names",
    [
        ("o.jsonl", "jsonl:o.jsonl"),
        ("o.jsonl", "./o.jsonl"),
        ("jsonl:o", "csv:o"),
        ("there.jsonl", "link.jsonl"),
        ("there.jsonl", "hard.jsonl"),
        ("new.jsonl", "folder/new.jsonl"),
        ("terminal", "terminal"),
    ],
)
def test_one_file_under_two_names_is_one_sink(tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to("there.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to("there.jsonl")
    (tmp_path / "folder").symlink_to(tmp_path)
    request = StreamRequest(tmp_path / "m.onnx", ("frames",), names)
    with pytest.raises(UsageError, match="named twice"), open_stream(request, print):
        pass


def test_a_folder_named_by_a_number_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "0" / "a.png", noise(4, 4))
    save(tmp_path / "a.png", noise(4, 4))
    (tmp_path / "1").write_bytes((tmp_path / "a.png").read_bytes())
    assert [frame.source for frame in open_source("0")] == ["0/a.png"]
    assert [frame.source for frame in open_source("1")] == ["1"]


def test_a_command_that_is_printed_can_be_pasted(tmp_path):
    path = tmp_path / "it's my model; rm *.onnx"
    assert shlex.split(command("score", path, "SOURCE"))[1:] == ["score", str(path), "SOURCE"]
    out = tmp_path / "my model.safetensors"
    out.touch()
    with pytest.raises(UsageError) as refused:
        prepare(TrainRequest(data="digits", anomalous="0", out=out))
    assert shlex.split(str(refused.value).split("with: ")[1])[-1] == str(out)


def test_the_next_command_of_a_download_can_be_pasted(tmp_path, monkeypatch, capsys):
    from adae_edge.train.data import download

    monkeypatch.setattr(download, "download", lambda name, folder: [folder / "x"])
    commands.download("mnist", tmp_path / "my data")
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last.removeprefix("next: "))[2] == f"mnist:{tmp_path / 'my data'}"


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_in_a_url_is_never_printed(tmp_path, caplog, secret):
    caplog.set_level(logging.DEBUG)
    url = f"rtsp://camera:{secret}@127.0.0.1:9/stream?token={secret.replace(' ', '')}"
    texts = []
    for work in (
        lambda: open_source(f"camera:{url}"),
        lambda: open_source(f"video:{url}"),
        lambda: open_sink(url),
        lambda: open_sink(f"jsonl:{url}"),
        lambda: open_sink(f"csv:{url}"),
        lambda: prepare(TrainRequest(data=url, out=tmp_path / "c.safetensors")),
    ):
        with pytest.raises(AdaeEdgeError) as refused:
            work()
        texts.append("".join(traceback.format_exception(refused.value)))
    camera = open_source(url)
    texts += [camera.name, *(event.detail for event in islice(camera, 2))]
    frame = Frame(url, 0, 0.0, np.zeros((1, 1, 1), np.uint8))
    event = Event(url, 0.0, "failure", f"{url} went away")
    texts += [frame.source, frame.place, event.source, event.detail, caplog.text]
    for text in texts:
        # A traceback quotes this test's own line, which names no secret.
        assert secret not in text
        assert secret.split("/")[-1] not in text


def test_a_path_is_no_url():
    for path in ("/data/me@site/a.png", "csv:/data/me@site/x.csv", "C:/me@site", "a://b"):
        assert without_password(path) == path
    assert without_password("rtsp:/a:b@host/x") == "rtsp:/***@host/x"
    assert (
        without_password("http://host/?a=1&password=x&b=2") == "http://host/?a=1&password=***&b=2"
    )
