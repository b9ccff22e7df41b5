"""What modalities send is scored once: the source, its names, and what a killed process leaves."""

import subprocess

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian

from adae_edge.errors import UsageError
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Receiving, Wanted
from tests.support.models import BUFFERED, command, complaints, mean_model
from tests.support.receiving import connected, data, store_command, wait_until
from tests.support.scoring import scoring, store
from tests.support.slices import write_slice

ROOT = "1.2.826.0.1.3680043.8.498"


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Ten CT slices, the mean of each of which is its number."""
    folder = tmp_path_factory.mktemp("slices")
    return [a_slice(folder, number) for number in range(10)]


def a_slice(folder, number, value=None):
    pixels = np.full((64, 48), number if value is None else value, np.uint8)
    return write_slice(folder / f"{number}.dcm", pixels, SOPInstanceUID=f"{ROOT}.{number}")


def test_each_instance_is_scored_once_as_its_file_is(tmp_path, slices):
    with scoring(tmp_path) as one:
        store(one.port, *slices)
        wait_until(lambda: len(one.files("done")) == len(slices))
        rows = one.rows()
        assert {row["frame"]: row["score"] for row in rows} == {
            f"{ROOT}.{number}": number for number in range(10)
        }
        assert len(rows) == 10
        store(one.port, *slices)
        wait_until(lambda: not one.files("new") and not one.files("claimed"))
        store(one.port, a_slice(tmp_path, 3, value=200))
        wait_until(lambda: len(one.files("done")) == len(slices) + 1)
        assert [row["score"] for row in one.rows()[10:]] == [200]
        assert one.rows()[-1]["frame"] == f"{ROOT}.3"
        assert len({row["source"] for row in one.rows()}) == 11
        (note,) = [told for told in one.events("note") if "other bytes" in told]
        assert note.startswith(one.rows()[-1]["source"])
    assert one.process.returncode == 0
    assert not one.files("new") + one.files("claimed")


def test_what_was_stored_before_a_kill_is_scored_once_after_it(tmp_path, slices):
    with scoring(tmp_path, "--resume") as one:
        store(one.port, *slices[:5])
        wait_until(lambda: len(one.rows()) >= 2)
        one.process.kill()
        one.process.wait()
    left = tmp_path / "spool" / "incoming" / "123"
    left.mkdir()
    (left / "half.dcm").write_bytes(bytes(100))
    with scoring(tmp_path, "--resume", port=one.port) as one:
        store(one.port, *slices[3:])
        wait_until(lambda: len(one.files("done")) == len(slices))
        assert sorted(row["score"] for row in one.rows()) == list(range(10))
        assert not one.files("incoming")


def test_what_cannot_be_scored_is_a_failure_and_is_done(tmp_path):
    with scoring(tmp_path) as one:
        with connected(one) as connection:
            connection.sendall(data(store_command(), command=True) + data(b"\xff" * 200))
            assert connection.recv(2**16)[:1] == b"\4"
        wait_until(lambda: one.files("done"))
        (told,) = one.events("failure")
        assert told.startswith(f"dicom-scp://127.0.0.1:{one.port}/ADAE/")
        assert "spool" not in told
        store(one.port, a_slice(tmp_path, 5), get_testdata_file("reportsi.dcm"))
        wait_until(lambda: len(one.files("done")) == 3)
        assert [row["score"] for row in one.rows()] == [5]
        assert len(one.events("failure")) == 1
    assert "without a picture" in one.process.stderr_text


def test_an_instance_under_another_ones_name_is_not_scored(tmp_path):
    pixels = np.full((64, 48), 1, np.uint8)
    path = write_slice(tmp_path / "1.dcm", pixels, ImplicitVRLittleEndian)
    content = path.read_bytes()
    content = content[content.index(b"\x08\0\x16\0") :]
    with scoring(tmp_path) as one:
        with connected(one) as connection:
            connection.sendall(data(store_command(b"1.2.99"), command=True) + data(content))
            assert connection.recv(2**16)[:1] == b"\4"
        wait_until(lambda: one.files("done"))
        assert "another instance than its sender named" in one.events("failure")[0]
        assert not one.rows()


def test_a_port_in_use_is_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model())
    with scoring(tmp_path) as one:
        source = f"dicom-scp://127.0.0.1:{one.port}/ADAE"
        words = command("score", "model.onnx", source, "--spool", "other")
        done = subprocess.run(words, cwd=tmp_path, env=BUFFERED, capture_output=True, text=True)
        assert done.returncode == 1
        (said,) = complaints(done)
        assert said.endswith(f"cannot listen at 127.0.0.1:{one.port}: Address already in use")
        words = command("score", "model.onnx", source, "--spool", "spool")
        done = subprocess.run(words, cwd=tmp_path, env=BUFFERED, capture_output=True, text=True)
        assert done.returncode == 1
        assert complaints(done) == ["spool is in use by another receiver"]


NOBODY = "--spool is for DICOM over the network, and no source is that"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("score", "model.onnx", "SLICE", "--spool", "spool"), NOBODY),
        (("calibrate", "model.onnx", "SLICE", "--spool", "spool"), NOBODY),
        (
            ("score", "model.onnx", "dicom://A@h/1.2", "--spool", "spool", "--quiet", "9s"),
            "--quiet is for dicom-scp, and no source is that",
        ),
        (
            ("calibrate", "model.onnx", "--rollback", "--spool", "spool"),
            "give either normals, or --rollback alone",
        ),
        (
            ("score", "model.onnx", "watch:.", "--to", "dicom://PACS@127.0.0.1?spool=."),
            "DICOM results are of whole series, and watch:. tells no end of one: give a folder, an "
            "archive, or dicom-scp://HOST:PORT/TITLE",
        ),
        (
            ("score", "model.onnx", "SLICE", "--tls-ca", "ca.pem"),
            "--tls-cert, --tls-key and --tls-ca go with --spool",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(tmp_path, slices, words, sentence):
    (tmp_path / "model.onnx").write_bytes(mean_model())
    words = command(*(slices[0] if word == "SLICE" else word for word in words))
    done = subprocess.run(words, cwd=tmp_path, env=BUFFERED, capture_output=True, text=True)
    assert done.returncode == 2
    assert complaints(done) == [sentence]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_watched_folder_gives_no_volumes_and_a_sentence_names_the_way(tmp_path):
    with pytest.raises(UsageError, match=r"send them to dicom-scp://.*, or score .* when"):
        open_source(f"watch:{tmp_path}", Wanted(kind="modality", object="head"))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("//127.0.0.1:11112", "has no AE title"),
        ("//127.0.0.1:11112/", "has no AE title"),
        ("ADAE", "has no AE title"),
        ("//127.0.0.1:11112/A%5CB", "has no AE title"),
        ("//127.0.0.1:11112/%20%20", "has no AE title"),
        ("//127.0.0.1:11112/ADAE%1b", "has no AE title"),
        ("//127.0.0.1:11112/SEVENTEEN_LETTERS", "has no AE title"),
        ("//127.0.0.1:111120/ADAE", "is no URL"),
        ("//127.0.0.1/ADAE?limit=much", "takes a size"),
        ("//127.0.0.1/ADAE?keep=0", "takes minutes"),
        ("//127.0.0.1/ADAE?hosts=10.0.0.300", "takes addresses or networks"),
        ("//127.0.0.1/ADAE?callers=A%5CB", "takes AE titles"),
        ("//127.0.0.1/ADAE?classes=MR", "takes UIDs"),
        ("//127.0.0.1/ADAE?syntaxes=1.2,", "takes UIDs"),
        ("//127.0.0.1/ADAE?commit=PACS@host", "takes TITLE:HOST:PORT"),
        ("//127.0.0.1/ADAE?colour=red", "can have"),
    ],
)
def test_a_wrong_name_is_refused(tmp_path, place, sentence):
    wanted = Wanted(receiving=Receiving(tmp_path / "spool"))
    with pytest.raises(UsageError, match=sentence):
        open_source(f"dicom-scp:{place}", wanted)


def test_what_goes_with_it_is_checked(tmp_path):
    name = "dicom-scp://127.0.0.1/ADAE"
    with pytest.raises(UsageError, match="give --spool DIR"):
        open_source(name)
    with pytest.raises(UsageError, match="there is no folder"):
        open_source(name, Wanted(receiving=Receiving(tmp_path / "a" / "b")))
    with pytest.raises(UsageError, match="go together"):
        open_source(name, Wanted(receiving=Receiving(tmp_path / "a", cert=tmp_path / "c.pem")))
    with pytest.raises(UsageError, match="train one with --object head"):
        open_source(name, Wanted(kind="modality", receiving=Receiving(tmp_path / "a")))


def test_opening_takes_no_port_and_leaves_no_folder(tmp_path):
    with open_source("dicom-scp://127.0.0.1/ADAE", Wanted(receiving=Receiving(tmp_path / "a"))):
        assert not list(tmp_path.iterdir())
