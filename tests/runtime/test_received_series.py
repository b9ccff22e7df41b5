"""A series that a modality sends is scored as a volume, when it is known to be complete."""

import queue
import subprocess
import threading
import time
from collections import Counter

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from adae_edge.benchmarks.peers.processes import free_port, peer
from adae_edge.runtime import Scorer
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_for, open_source
from adae_edge.runtime.sources.source import Receiving, Wanted
from tests.support.heads import scan
from tests.support.models import BUFFERED, HANGS_S, command, slice_model
from tests.support.receiving import wait_until
from tests.support.scoring import scoring, store
from tests.support.series import turned, write_enhanced, write_series

COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
# Of quiet: never in a test; once one command has sent all; once several commands have.
SLOW, SOON, LATER = "1000s", "1500ms", "6s"


@pytest.fixture(scope="module")
def head():
    return turned(scan(3)[0])


@pytest.fixture
def paths(tmp_path, head):
    """The files of a series of 16 slices, which no scanner declares."""
    return write_series(tmp_path / "series", head, SeriesInstanceUID="1.2.3")


def received(folder, quiet, *options, **more):
    return scoring(folder, "--quiet", quiet, *options, model=slice_model(), **more)


def scores_of(folder, place):
    """The score of each slice of files, by its frame."""
    with Scorer(folder / "model.onnx") as scorer:
        items = open_for(scorer.contract, str(place))
        frames = [item for item in items if isinstance(item, Frame)]
        return {
            frame.id: float(scorer.score(frame.pixels[None], [frame.mean], [frame.std])[0])
            for frame in frames
        }


def check(rows, expected):
    """The rows are those of the files, each once."""
    assert len(rows) == len(expected) > 8
    assert {row["frame"]: row["score"] for row in rows} == pytest.approx(expected, rel=1e-5)


def associate(port, *extra):
    entity = AE("MR1")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    for uid in extra:
        entity.add_requested_context(uid)
    association = entity.associate("127.0.0.1", port, ae_title="ADAE")
    assert association.is_established
    return association


def send(association, files):
    for path in files:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0


def commit(association, files):
    """Ask for commitment of files, as a modality does behind the last one."""
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = []
    for path in files:
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        item.ReferencedSOPInstanceUID = pydicom.dcmread(path).SOPInstanceUID
        asked.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(asked, 1, COMMITMENT, WELL_KNOWN)
    assert status.Status == 0


def test_a_silent_series_is_scored_as_its_files_are_and_nothing_of_the_patient_is_told(
    tmp_path, paths
):
    with received(tmp_path, LATER) as one:
        store(one.port, *paths[::2])
        store(one.port, *paths[1::2])
        wait_until(lambda: len(one.files("done")) == 16)
        check(one.rows(), scores_of(tmp_path, tmp_path / "series"))
        assert one.series() == ["complete (quiet): 16 slices"]
        place = f"dicom-scp://127.0.0.1:{one.port}/ADAE/1.2.3"
        assert {row["source"] for row in one.rows()} == {place}
        assert {row["complete"] for row in one.rows()} == {"quiet"}
        assert not one.events("failure")
        assert b"A^B" not in (tmp_path / "rows.jsonl").read_bytes()
    assert "A^B" not in one.process.stderr_text
    assert "series 1.2.3 is complete (quiet): 16 slices" in one.process.stderr_text


def test_what_the_scanner_declares_is_waited_for_and_no_longer(tmp_path, head):
    paths = write_series(
        tmp_path / "series", head, SeriesInstanceUID="1.2.3", ImagesInAcquisition=16
    )
    with received(tmp_path, SLOW) as one:
        store(one.port, *paths[:15])
        wait_until(lambda: len(one.files("claimed")) == 15)
        time.sleep(1)
        assert not one.rows()
        store(one.port, paths[15])
        wait_until(lambda: len(one.files("done")) == 16)
        assert one.series() == ["complete (declared): 16 slices"]


def test_a_commitment_names_what_was_sent(tmp_path, paths):
    with received(tmp_path, SLOW) as one:
        association = associate(one.port, COMMITMENT)
        send(association, paths)
        commit(association, paths[:1])  # a peer that asks for each one is believed at no time
        commit(association, paths[4:])
        time.sleep(1)
        assert not one.rows()
        commit(association, paths)
        association.release()
        wait_until(lambda: len(one.files("done")) == 16)
        assert one.series() == ["complete (commitment): 16 slices"]


def test_an_enhanced_instance_is_complete(tmp_path, head):
    path = write_enhanced(tmp_path / "e.dcm", head)
    with received(tmp_path, SLOW) as one:
        store(one.port, path)
        wait_until(lambda: one.files("done"))
        check(one.rows(), scores_of(tmp_path, path))
        assert one.series() == ["complete (enhanced): 16 slices"]


def test_an_aborted_association_is_no_sign(tmp_path, paths):
    with received(tmp_path, LATER) as one:
        association = associate(one.port)
        send(association, paths[:12])
        association.abort()
        time.sleep(0.5)
        association = associate(one.port)
        send(association, paths[12:])
        association.release()
        wait_until(lambda: len(one.files("done")) == 16)
        assert one.series() == ["complete (quiet): 16 slices"]
        assert len(one.rows()) > 8


def test_a_late_slice_makes_a_revision_that_names_the_one_before(tmp_path, paths):
    with received(tmp_path, SOON) as one:
        store(one.port, *paths[:15])
        wait_until(lambda: len(one.files("done")) == 15)
        first = one.rows()
        store(one.port, *paths)
        wait_until(lambda: len(one.files("done")) == 16)
        later = one.rows()[len(first) :]
        check(later, scores_of(tmp_path, tmp_path / "series"))
        assert {row["source"] for row in later} == {f"{first[0]['source']}/2"}
        assert one.series() == [
            "complete (quiet): 15 slices",
            "complete (quiet): 16 slices; revision 2 replaces revision 1",
        ]


def test_a_gap_is_no_volume_until_it_is_filled(tmp_path, paths):
    with received(tmp_path, SOON) as one:
        store(one.port, *paths[:7], *paths[8:])
        wait_until(lambda: len(one.files("done")) == 15)
        (told,) = one.events("failure")
        assert "has a gap" in told
        assert "spool" not in told
        store(one.port, paths[7])
        wait_until(lambda: len(one.files("done")) == 16)
        check(one.rows(), scores_of(tmp_path, tmp_path / "series"))
        assert one.series() == ["complete (quiet): 16 slices"]


def test_a_localiser_and_a_report_are_no_volumes_and_no_faults(tmp_path, head, paths):
    few = write_series(tmp_path / "few", turned(scan(3)[0][:, :, :3]))
    report = pydicom.data.get_testdata_file("reportsi.dcm")
    with received(tmp_path, SOON) as one:
        store(one.port, *few, report, *paths)
        wait_until(lambda: len(one.files("done")) == 20)
        assert not one.events("failure")
        assert any("has 3 slices" in told for told in one.events("note"))
        assert len(one.series()) == 1


@pytest.mark.parametrize("moment", ["collecting", "scoring"])
def test_a_killed_process_scores_the_series_once(tmp_path, paths, moment):
    with received(tmp_path, SLOW if moment == "collecting" else SOON, "--resume") as one:
        store(one.port, *paths[:10] if moment == "collecting" else paths)
        if moment == "collecting":
            wait_until(lambda: len(one.files("claimed")) == 10)
        else:
            wait_until(lambda: len(one.rows()) >= 1)
        one.process.kill()
        one.process.wait()
    with received(tmp_path, LATER, "--resume", port=one.port) as one:
        store(one.port, *paths[10:])
        wait_until(lambda: len(one.files("done")) == 16)
        check(one.rows(), scores_of(tmp_path, tmp_path / "series"))
        assert one.series() == ["complete (quiet): 16 slices"]


def pictures_of(head, folder):
    """A series that a model for pictures takes."""
    return write_series(folder, head, SeriesInstanceUID="1.2.3", WindowCenter=200, WindowWidth=800)


def test_pictures_are_scored_at_once_and_their_series_ends_later(tmp_path, head):
    paths = pictures_of(head, tmp_path / "series")
    with scoring(tmp_path, "--quiet", SOON) as one:
        store(one.port, *paths[:10])
        wait_until(lambda: len(one.files("done")) == 10)
        assert len(one.rows()) == 10
        assert {row["complete"] for row in one.rows()} == {None}
        wait_until(one.series)
        store(one.port, *paths[10:])
        wait_until(lambda: len(one.series()) == 2)
        assert len(one.rows()) == 16
        assert one.series() == [
            "complete (quiet): 10 slices",
            "complete (quiet): 16 slices; revision 2 replaces revision 1",
        ]


def test_the_end_of_a_series_of_pictures_survives_a_kill(tmp_path, head):
    paths = pictures_of(head, tmp_path / "series")
    with scoring(tmp_path, "--quiet", SLOW, "--resume") as one:
        store(one.port, *paths[:10])
        wait_until(lambda: len(one.files("done")) >= 5)
        one.process.kill()
        one.process.wait()
    with scoring(tmp_path, "--quiet", LATER, "--resume", port=one.port) as one:
        store(one.port, *paths[10:])
        wait_until(one.series)
        assert len({row["frame"] for row in one.rows()}) == len(one.rows()) == 16
        assert one.series() == ["complete (quiet): 16 slices"]


class Collected:
    """A receiver whose source is read here, for a sink that makes something of whole series."""

    def __init__(self, folder, port, quiet):
        spool = Receiving(folder / "spool", quiet=quiet)
        wanted = Wanted(receiving=spool, collected=True)
        self.source = open_source(f"dicom-scp://127.0.0.1:{port}/ADAE", wanted)
        self._port, self._items = port, queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for item in self.source:
            self._items.put(item)

    def until_end(self, send=()):
        """The frames until a series ends, and that; files are sent as soon as it listens."""
        frames = []
        while True:
            item = self._items.get(timeout=HANGS_S)
            if isinstance(item, Frame):
                frames.append(item)
            elif item.kind == "live" and send:
                store(self._port, *send)
            elif item.kind == "series":
                return frames, item

    def close(self):
        self.source.stop()
        self._thread.join()
        self.source.close()

    def settle(self, frames, end):
        self.source.settle(Counter([frame.source for frame in frames] + [end.source]))


def test_who_collects_gets_whole_series_whatever_is_killed_or_late(tmp_path, head):
    paths, port = pictures_of(head, tmp_path / "series"), free_port()
    done = tmp_path / "spool" / "done"

    first = Collected(tmp_path, port, 1.5)
    frames, end = first.until_end(paths[:10])
    assert (len(frames), end.series.revision, end.series.slices) == (10, 1, 10)
    first.settle(frames[:5], end)
    time.sleep(0.5)
    assert not list(done.iterdir())  # half of the results are not kept
    first.close()

    second = Collected(tmp_path, port, 1000)
    again, same = second.until_end()  # at once: it was decided before
    assert {frame.id for frame in again} == {frame.id for frame in frames}
    assert same.series == end.series
    second.settle(again, same)
    wait_until(lambda: len(list(done.iterdir())) == 10)
    second.close()

    third = Collected(tmp_path, port, 1.5)
    frames, end = third.until_end(paths[10:])
    assert len({frame.id for frame in frames}) == len(frames) == 16
    assert (end.series.revision, end.series.slices) == (2, 16)
    assert all(frame.instance.dataset().PatientID == "7" for frame in frames)
    third.settle(frames, end)
    wait_until(lambda: len(list(done.iterdir())) == 16)
    third.close()


def test_a_series_is_not_quiet_while_its_slices_wait_for_a_slow_reader(tmp_path, head):
    paths, port = pictures_of(head, tmp_path / "series"), free_port()
    wanted = Wanted(receiving=Receiving(tmp_path / "spool", quiet=0.0))
    with open_source(f"dicom-scp://127.0.0.1:{port}/ADAE", wanted) as source:
        items = iter(source)
        assert next(items).kind == "live"
        store(port, *paths[:3])
        assert isinstance(next(items), Frame)
        store(port, *paths[3:5])
        end = next(item for item in items if not isinstance(item, Frame))
    assert (end.kind, end.series.slices) == ("series", 5)


def test_more_of_a_series_a_part_of_which_was_deleted_is_no_volume(tmp_path, paths):
    with received(tmp_path, SOON) as one:
        store(one.port, *paths[:15])
        wait_until(lambda: len(one.files("done")) == 15)
        rows = len(one.rows())
        one.files("done")[3].unlink()
        store(one.port, paths[15])
        wait_until(lambda: one.events("failure"))
        assert "after a part of it was deleted" in one.events("failure")[0]
        wait_until(lambda: len(one.files("done")) == 15)
        assert len(one.rows()) == rows
        store(one.port, *paths)
        wait_until(lambda: len(one.files("done")) == 16)
        check(one.rows()[rows:], scores_of(tmp_path, tmp_path / "series"))


def test_a_station_takes_series_from_a_receiver(tmp_path, paths):
    (tmp_path / "model.onnx").write_bytes(slice_model())
    port = free_port()
    (tmp_path / "station.toml").write_text(
        f'[[stream]]\nmodel = "model.onnx"\nsource = "dicom-scp://127.0.0.1:{port}/ADAE"\n'
        'spool = "spool"\nquiet = "1500ms"\nresume = true\nto = ["jsonl:rows.jsonl"]\n'
    )
    words, rows = command("run", "station.toml"), tmp_path / "rows.jsonl"
    with peer(words, cwd=tmp_path, env=BUFFERED, stderr=subprocess.PIPE) as station:
        wait_until(lambda: rows.exists() and "takes instances" in rows.read_text())
        store(port, *paths)
        wait_until(lambda: "complete (quiet): 16 slices" in rows.read_text())
        station.process.terminate()
        _, errors = station.process.communicate(timeout=HANGS_S)
    assert station.process.returncode == 0, errors
