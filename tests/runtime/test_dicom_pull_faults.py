"""Broken and hostile archives cost a sentence, and what was fetched is not fetched again."""

import io
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.runtime.dicom import answers
from adae_edge.runtime.dicom.pull_request import Request, Web
from adae_edge.runtime.dicom.pulling_web import DicomWeb, copy_instance
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Receiving, Wanted
from tests.support.slices import write_slice

ROOT = "1.2.826.0.1.3680043.8.498"
STUDY, SERIES = f"{ROOT}.1", f"{ROOT}.2"
PARTS = "multipart/related; type=application/dicom; boundary=limit"
NAME = "Quarrington^Ophelia"


def instance(number, series=SERIES, study=STUDY):
    """The bytes of a slice."""
    file = io.BytesIO()
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "PatientName": NAME}
    uids["InstanceNumber"] = number + 1
    pixels = np.full((32, 32), number, np.uint8)
    write_slice(file, pixels, SOPInstanceUID=f"{SERIES}.{number}", **uids)
    return file.getvalue()


def listed(**values):
    """An item of DICOM JSON."""
    return {tag.strip("t"): {"vr": "UI", "Value": [value]} for tag, value in values.items()}


class Archive:
    """An archive that speaks DICOMweb, and what it was asked; it may be told to lie.

    Attributes:
        asked: the paths and the headers of requests.
        lies: by a pattern of a path, what is answered in place of the truth: a status, or a
            function of the handler.
        count: how many instances it has, by its own word and in truth.
    """

    def __init__(self, port):
        self.port, self.asked, self.lies, self.count, self.has = port, [], {}, 3, 3

    @property
    def spec(self):
        return f"dicomweb:http://127.0.0.1:{self.port}/web/studies/{STUDY}"

    def paths(self, part):
        return [path for path, _ in self.asked if part in path]

    def answer(self, handler):
        self.asked.append((handler.path, dict(handler.headers)))
        for pattern, lie in self.lies.items():
            if re.search(pattern, handler.path):
                return handler.send(lie, b"") if isinstance(lie, int) else lie(handler)
        path, _, query = handler.path.partition("?")
        if path.endswith("/series"):
            about = {"t0020000D": STUDY, "t0020000E": SERIES, "t00201209": self.count}
            return handler.send(200, json.dumps([listed(**about)]).encode())
        if path.endswith("/instances"):
            begin = int(re.search("offset=([0-9]+)", query)[1])
            items = [listed(t00080018=f"{SERIES}.{number}") for number in range(self.has)]
            return handler.send(200, json.dumps(items[begin:]).encode())
        return handler.give(instance(int(path.rpartition(".")[2])))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.archive.answer(self)

    def send(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def give(self, *files):
        head = b"\r\n--limit\r\nContent-Type: application/dicom\r\n\r\n"
        body = b"".join(head + file for file in files) + b"\r\n--limit--"
        self.send(200, body[2:], Content_Type=PARTS)

    def drip(self, beginning):
        """Send a byte now and then, without end."""
        self.flood(beginning, "application/json", b" ", 0.02)

    def flood(self, beginning, kind, piece=b" " * 2**16, pause=0.0):
        """Send without end."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(beginning)
            while True:
                self.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            pass


@contextmanager
def web_archive():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.archive = Archive(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.archive
    server.shutdown()
    server.server_close()


@pytest.fixture
def web():
    with web_archive() as archive:
        yield archive


def pulled(spec, folder, patience_s=20.0):
    """The ids of frames, and the sentences of failures."""
    with open_source(spec, Wanted(receiving=Receiving(folder / "spool"))) as source:
        source._request = replace(source._request, patience_s=patience_s)
        items = list(source)
    frames = [item.id for item in items if isinstance(item, Frame)]
    events = [item for item in items if not isinstance(item, Frame)]
    return frames, [event.detail for event in events if event.kind == "failure"]


def refusal(spec, folder, **options):
    """The sentence for which nothing is given."""
    with pytest.raises(SourceError) as raised:
        pulled(spec, folder, **options)
    return str(raised.value)


IDS = [f"{SERIES}.{number}" for number in range(3)]


def test_what_was_fetched_is_not_fetched_again(web, tmp_path):
    web.lies[f"instances/{SERIES}.2"] = 500
    assert refusal(web.spec, tmp_path).endswith("does not give it: HTTP 500")
    assert len(web.paths("/instances/")) == 3
    web.lies.clear()
    assert pulled(web.spec, tmp_path) == (IDS, [])
    assert web.paths("/instances/")[3:] == [
        f"/web/studies/{STUDY}/series/{SERIES}/instances/{IDS[2]}"
    ]
    assert pulled(web.spec, tmp_path) == (IDS, [])
    assert len(web.paths("/instances/")) == 4


def test_a_slice_that_came_late_is_fetched_alone_and_one_that_went_is_forgotten(web, tmp_path):
    assert pulled(web.spec, tmp_path) == (IDS, [])
    web.count = web.has = 4
    assert pulled(web.spec, tmp_path) == ([*IDS, f"{SERIES}.3"], [])
    assert len(web.paths("/instances/")) == 4
    web.count = web.has = 2
    assert pulled(web.spec, tmp_path) == (IDS[:2], [])


def test_more_instances_than_one_list_holds_are_asked_for_in_several(web, tmp_path):
    def pages(handler):
        begin = int(re.search("offset=([0-9]+)", handler.path)[1])
        items = [listed(t00080018=f"{SERIES}.{number}") for number in range(3)]
        handler.send(200, json.dumps(items[begin : begin + 2]).encode())

    web.lies["/instances[?]"] = pages
    assert pulled(web.spec, tmp_path) == (IDS, [])


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (401, "refuses the credentials: HTTP 401"),
        (500, "does not give it: HTTP 500"),
        (lambda handler: handler.send(200, b"<html>"), "lists in what is no JSON"),
        (lambda handler: handler.send(200, b"[7]"), "lists in what is no DICOM JSON"),
        (lambda handler: handler.flood(b"[", "application/json"), "lists more than 16 MiB"),
        (lambda handler: handler.drip(b"["), "answers too slowly"),
        (lambda handler: handler.send(302, b"", Location="/x"), "is not followed: HTTP 302"),
        (lambda handler: time.sleep(4), "does not answer"),
        (lambda handler: setattr(handler, "close_connection", True), "or broke off"),
    ],
)
def test_a_list_that_is_none_costs_a_sentence(web, lie, sentence, monkeypatch):
    patience_s = 1 if sentence in ("answers too slowly", "does not answer") else 60
    monkeypatch.setattr(answers, "_PATIENCE_S", patience_s)
    web.lies["/series[?]"] = lie
    with asked(web, patience_s) as archive, pytest.raises(SourceError) as raised:
        archive.series()
    assert str(raised.value).startswith("the archive ")
    assert str(raised.value).endswith(sentence)


@pytest.mark.parametrize("lie", [404, 204, lambda handler: handler.send(200, b"[]")])
def test_a_study_that_is_not_there_is_missed(web, lie):
    web.lies["/series[?]"] = lie
    with asked(web) as archive:
        assert archive.series() == {}


@contextmanager
def asked(web, patience_s=60.0):
    """The archive, asked in this process."""
    reached = Web(web.spec.partition(":")[2].partition("/studies")[0])
    request = Request("the archive", reached, STUDY, "", "", 10**9, 60.0, patience_s=patience_s)
    archive = DicomWeb(request)
    yield archive
    archive._session.close()


@pytest.mark.parametrize(
    ("pattern", "lie", "sentence"),
    [
        ("/series[?]", 404, f"has no study {STUDY}"),
        (
            "/series[?]",
            lambda handler: handler.send(
                200, json.dumps([listed(t0020000E="../../x", t00201209=3)]).encode()
            ),
            "lists a UID that is none",
        ),
        ("/instances/", lambda handler: time.sleep(4), "does not answer"),
        ("/instances/", lambda handler: handler.flood(b"--limit\r\n\r\n", PARTS), "too large"),
    ],
)
def test_an_archive_that_lies_ends_the_pull(web, tmp_path, pattern, lie, sentence):
    web.lies[pattern] = lie
    patience_s = 1.0 if sentence == "does not answer" else 20.0
    said = refusal(f"{web.spec}?limit=2MB", tmp_path, patience_s=patience_s)
    assert said.startswith((f"dicomweb:http://127.0.0.1:{web.port}/web", f"{tmp_path}/spool"))
    assert said.endswith(sentence)


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (404, "the archive gave 2 of 3 instances: it does not find 1"),
        (lambda handler: handler.give(instance(1, f"{ROOT}.9")), "another instance than"),
        (lambda handler: handler.give(b"DICM?" * 100), "a file that is no DICOM"),
    ],
)
def test_an_instance_that_is_none_costs_its_series(web, tmp_path, lie, sentence):
    web.lies[f"instances/{SERIES}.1$"] = lie
    frames, failures = pulled(web.spec, tmp_path)
    assert frames == []
    place = f"dicomweb:http://127.0.0.1:{web.port}/web/{STUDY}/{SERIES}"
    assert failures[0].startswith(f"{place} is not scored: the archive")
    assert sentence in failures[0]
    assert len(failures) == 1
    assert not [*(tmp_path / "spool").rglob("incoming/*")]


HEAD, ONE = b"--limit\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--limi\r\n-" * 9


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        ("text/html", ONE, "the archive gave an answer that is no DICOM"),
        ("multipart/related", HEAD + ONE, "the archive gave an answer that is no DICOM"),
        ("", b"", "the archive gave an answer that is no DICOM"),
        (PARTS, b"", "the archive gave an answer without a part"),
        (PARTS, b"--limit--", "the archive gave an answer without a part"),
        (PARTS, b"-" * 2**18, "the archive gave an answer without a part"),
        (PARTS, b"--limit\r\n" + b"a: b\r\n" * 2**15, "an answer without a part"),
        (PARTS, HEAD + ONE, "ended in the middle of an instance"),
        (PARTS, HEAD + ONE + b"\r\n--limit", "gave more than one instance in an answer"),
        (PARTS, HEAD + ONE + b"\r\n" + HEAD + ONE, "gave more than one instance in an answer"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_a_part_that_is_none_is_refused_however_it_comes(kind, body, sentence, size):
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    with pytest.raises(FrameError, match=sentence):
        copy_instance({"Content-Type": kind}, pieces, io.BytesIO())


@pytest.mark.parametrize("size", [1, 2, 3, 11, 2**16])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"a preamble\r\n"])
def test_a_part_is_copied_however_it_comes(size, before):
    body, file = before + HEAD + ONE + b"\r\n--limit--\r\nan epilogue", io.BytesIO()
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    copy_instance({"Content-Type": PARTS}, pieces, file)
    assert file.getvalue() == ONE


def test_a_single_part_is_an_instance_too(web, tmp_path):
    kind = {"Content_Type": "application/dicom"}
    web.lies["/instances/"] = lambda handler: handler.send(
        200, instance(int(handler.path.rpartition(".")[2])), **kind
    )
    assert pulled(web.spec, tmp_path) == (IDS, [])


def test_a_count_that_is_not_that_of_the_list_costs_the_series(web, tmp_path):
    web.count = 5
    frames, failures = pulled(web.spec, tmp_path)
    assert (frames, len(failures)) == ([], 1)
    assert failures[0].endswith("the archive counts 5 instances, and lists 3")


def test_credentials_go_to_the_archive_alone(web, tmp_path, monkeypatch):
    with web_archive() as other:
        elsewhere = f"http://127.0.0.1:{other.port}/web"
        web.lies["/instances/"] = lambda handler: handler.send(302, b"", Location=elsewhere)
        user = web.spec.replace("://", "://anna:geheim7@")
        said = refusal(user, tmp_path)
        assert said.endswith("sends elsewhere, which is not followed: HTTP 302")
        assert other.asked == []
    assert "geheim7" not in said
    assert {headers["Authorization"] for _, headers in web.asked} == {"Basic YW5uYTpnZWhlaW03"}
    web.asked.clear()
    web.lies.clear()
    monkeypatch.setenv("PACS_TOKEN", "abc.def")
    assert pulled(f"{web.spec}?token=${{PACS_TOKEN}}", tmp_path) == (IDS, [])
    assert {headers["Authorization"] for _, headers in web.asked} == {"Bearer abc.def"}


def test_nothing_of_the_patient_is_in_names_or_sentences(web, tmp_path, capfd):
    web.lies[f"instances/{SERIES}.1$"] = lambda handler: handler.give(instance(1)[:-40])
    frames, failures = pulled(web.spec, tmp_path)
    said = capfd.readouterr()
    spool = tmp_path / "spool"
    names = [str(path) for path in spool.rglob("*")]
    for text in (*frames, *failures, said.out, said.err, *names):
        assert "Quarrington" not in text
    assert spool.stat().st_mode & 0o777 == 0o700


def test_what_others_pulled_makes_room(web, tmp_path):
    assert pulled(f"{web.spec}/series/{SERIES}", tmp_path) == (IDS, [])
    assert len([*(tmp_path / "spool/pulled").iterdir()]) == 1
    assert pulled(web.spec, tmp_path) == (IDS, [])
    assert len([*(tmp_path / "spool/pulled").iterdir()]) == 2
    time.sleep(0.1)
    assert pulled(f"{web.spec}?keep=0.001", tmp_path) == (IDS, [])
    assert len([*(tmp_path / "spool/pulled").iterdir()]) == 1


def test_one_folder_is_pulled_into_by_one_process(web, tmp_path):
    spec = Wanted(receiving=Receiving(tmp_path / "spool"))
    with open_source(web.spec, spec) as source:
        assert isinstance(next(iter(source)), Frame)
        assert "is in use by another one" in refusal(web.spec, tmp_path)
    assert pulled(web.spec, tmp_path) == (IDS, [])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dicom://127.0.0.1:104/1.2", "is no series"),
        ("dicom://PACS@127.0.0.1:104/", "UIDs are digits and dots"),
        ("dicom://PACS@127.0.0.1:104/1.2/3.4/5.6", "is no series"),
        ("dicom://PACS@127.0.0.1:104/1.2;rm", "UIDs are digits and dots"),
        ("dicom://PACS@127.0.0.1:104/1.2?move=here", "move in dicom://PACS@"),
        ("dicom://PACS@127.0.0.1:x/1.2", "is no URL"),
        ("dicomweb:http://127.0.0.1/web", "is no series"),
        ("dicomweb:ftp://127.0.0.1/studies/1.2", "is no series"),
        ("dicomweb:http://10.0.0.9/web/studies/1.2", "is not encrypted, and another machine"),
        ("dicomweb:https://a:geheim7@10.0.0.9/web/studies/x?token=geheim8", "digits and dots"),
        ("dicomweb:https://10.0.0.9/studies/1.2?tokn=geheim9", "has the option tokn"),
        ("dicomweb:https://10.0.0.9/studies/1.2?limit=1&tokn=geheim9", "limit in dicomweb:https"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_asked(tmp_path, spec, words):
    with pytest.raises(UsageError) as raised:
        open_source(spec, Wanted(receiving=Receiving(tmp_path / "spool")))
    assert words in str(raised.value)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "asked", "words"),
    [
        ("dicom://A@127.0.0.1:1/1.2", {"object": "nonzero"}, "by --brain-mask, or train a model"),
        ("dicom://A@127.0.0.1:1/1.2", {"object": "head", "brain_mask": "m.nii"}, "leave out"),
        ("dicom://A@127.0.0.1:1/1.2", {"object": "head", "window": (40, 80)}, "--window is for"),
        ("dicomweb:http://localhost:1/studies/1.2", {}, "by --brain-mask, or train a model"),
        ("dicom-scp://127.0.0.1:1/A", {"object": "nonzero"}, "train one with --object head"),
        ("dicom-scp://127.0.0.1:1/A", {"object": "head", "window": (40, 80)}, "--window is for"),
    ],
)
def test_what_a_model_of_volumes_cannot_take_is_told_before_it_is_pulled(
    tmp_path, place, asked, words
):
    wanted = Wanted(kind="modality", receiving=Receiving(tmp_path / "spool"), **asked)
    with pytest.raises(UsageError, match=words):
        open_source(place, wanted)


def test_without_a_spool_nothing_is_pulled():
    with pytest.raises(UsageError, match="is pulled into a spool: give --spool DIR"):
        open_source("dicom://PACS@127.0.0.1:104/1.2", Wanted())
