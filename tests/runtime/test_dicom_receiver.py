"""The process that receives DICOM: what peers are told, what is kept, and what hurts nobody."""

import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.errors import SpoolInUse
from adae_edge.runtime.dicom import association, received
from adae_edge.runtime.dicom.received import hash_of
from tests.support import recordings
from tests.support.peers import peer, peers
from tests.support.receiving import HANGS_S, connected, echo, receiver, silent, wait_until
from tests.support.slices import write_slice

UID = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A receiver to which nothing is done that another test could notice."""
    with receiver(tmp_path_factory.mktemp("shared")) as one:
        yield one


def a_slice(folder, uid=UID, value=7, **attributes):
    pixels = np.full((64, 48), value, np.uint16)
    return write_slice(folder / f"{uid}-{value}.dcm", pixels, SOPInstanceUID=uid, **attributes)


def store(port, *files, options=(), fails=False):
    """Send files by storescu; what it says."""
    command = [peer("storescu"), "-v", *options, "-aec", "ADAE", "127.0.0.1", port, *files]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=HANGS_S)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("program", "option"),
    [("dcmcrle", "-xr"), ("dcmcjpeg", "-xs"), ("dcmcjpls", "-xt"), ("", "-xe"), ("", "-xd")],
)
def test_what_storescu_sends_is_kept_as_it_was_encoded(shared, tmp_path, program, option):
    uid = f"{UID}.{ord(option[-1])}"
    path = a_slice(tmp_path, uid)
    if program:
        packed = path.with_suffix(".packed")
        subprocess.run([peer(program), str(path), str(packed)], check=True)
        path = packed
    store(shared.port, path, options=[option])
    (kept,) = [file for file in shared.files() if file.name.startswith(hash_of(uid))]
    sent, stored = pydicom.dcmread(path), pydicom.dcmread(kept)
    if program:
        assert stored.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert stored.PixelData == sent.PixelData
    assert stored.SOPInstanceUID == uid
    assert stored.file_meta.MediaStorageSOPInstanceUID == uid


def test_the_same_bytes_are_one_file_and_others_lie_beside_it(tmp_path):
    with receiver(tmp_path) as one:
        for value in (1, 1, 2):
            store(one.port, a_slice(tmp_path, value=value))
        names = [file.name for file in one.files()]
        assert len(names) == 2
        assert {name.partition("-")[0] for name in names} == {hash_of(UID)}
        one.when_idle()


def test_every_success_follows_the_file_its_name_and_its_folder_on_the_disk(tmp_path):
    trace = tmp_path / "trace"
    before = [peer("strace"), "-f", "--seccomp-bpf", "-y", "-xx", "-s", "200", "-o", trace]
    before += ["-e", "trace=fsync,rename,sendto"]
    files = [a_slice(tmp_path, f"{UID}.{number}") for number in range(1, 4)]
    with receiver(tmp_path, [*map(str, before)]) as one:
        store(one.port, *files)
        one.process.stdin.close()
    steps = []
    for line in trace.read_text().splitlines():
        line = re.sub(r"(\\x[0-9a-f]{2})+", lambda found: _text(found[0]), line)
        if "fsync(" in line and "/incoming/" in line:
            steps.append("file")
        elif "rename(" in line and "/incoming/" in line and "/new/" in line:
            steps.append("name")
        elif re.search(r"fsync\(\d+<[^>]*/new>", line):
            steps.append("folder")
        elif "sendto(" in line and "\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80" in line:
            steps.append("success")
    begun = steps.index("file")
    assert steps[begun:] == ["file", "name", "folder", "success"] * len(files)


def _text(escaped):
    return bytes.fromhex(escaped.replace("\\x", "")).decode("latin-1")


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path):
    with receiver(tmp_path, limit_bytes=10_000) as one:
        said = store(one.port, a_slice(tmp_path, UID), a_slice(tmp_path, UID + ".2"), fails=True)
        assert "Success" in said
        assert "OutOfResources" in said
        one.when_idle()
        assert len(one.files()) == 1
        assert [line for line in one.told() if "there is no room" in line]


def test_a_disk_that_takes_no_more_refuses_and_keeps_nothing_half(tmp_path):
    with receiver(tmp_path, [peer("prlimit"), "--fsize=3000"]) as one:
        said = store(one.port, a_slice(tmp_path), fails=True)
        assert "OutOfResources" in said
        small = np.zeros((4, 4), np.uint16)
        store(one.port, write_slice(tmp_path / "small.dcm", small, SOPInstanceUID="1.2.3"))
        assert [file.name[:64] for file in one.files()] == [hash_of("1.2.3")]
        one.when_idle()


def test_what_is_done_makes_room_the_oldest_first_and_what_is_new_never_does(tmp_path):
    with receiver(tmp_path, limit_bytes=15_000) as one:  # two, and not three
        for uid in ("1.2.1", "1.2.2"):
            store(one.port, a_slice(tmp_path, uid))
            settled = next(file for file in one.files() if file.name.startswith(hash_of(uid)))
            settled.rename(one.spool / "done" / settled.name)
        store(one.port, a_slice(tmp_path, "1.2.3"))
        assert [file.name[:64] for file in one.files("done")] == [hash_of("1.2.2")]
        store(one.port, a_slice(tmp_path, "1.2.4"))
        assert not one.files("done")
        store(one.port, a_slice(tmp_path, "1.2.5"), fails=True)
        assert {file.name[:64] for file in one.files()} == {hash_of("1.2.3"), hash_of("1.2.4")}


def test_what_is_done_makes_room_on_a_full_disk(tmp_path, monkeypatch):
    spool = received.Received(tmp_path / "spool")
    for state in received.STATES:
        (spool.folder / state).mkdir(parents=True)
    for number in range(5):
        (spool.folder / "done" / str(number)).write_bytes(bytes(1000))
        time.sleep(0.01)
    (spool.folder / "new" / "5").write_bytes(bytes(1000))
    blocks = {"f_blocks": 10_000, "f_bavail": 10_000, "f_frsize": 10}
    for free, left in ((1100, "01234"), (800, "234"), (0, "")):
        blocks["f_bavail"] = free
        monkeypatch.setattr(received.os, "statvfs", lambda folder: SimpleNamespace(**blocks))
        spool.weed(10**9, 3600.0)
        assert "".join(sorted(path.name for path in spool.folder.glob("done/*"))) == left
    assert (spool.folder / "new" / "5").exists()


def test_a_spool_that_goes_away_is_told_and_ends_it(tmp_path):
    with receiver(tmp_path) as one:
        shutil.rmtree(one.spool)
        wait_until(lambda: one.process.poll() is not None)
        (told,) = [line for line in one.told() if line.startswith("failed")]
    assert told.endswith("spool cannot be used: No such file or directory")


def test_what_is_done_for_long_is_deleted(tmp_path):
    with receiver(tmp_path, keep_s=0.1) as one:
        (one.spool / "done" / "1-1").touch()
        (one.spool / "new" / "2-2").touch()
        wait_until(lambda: not one.files("done"))
        assert one.files()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"callers": ("SCANNER",)}, "was rejected"),
        ({"hosts": ("10.0.0.0/8",)}, "may not connect"),
        ({"classes": ("1.2.840.10008.5.1.4.1.1.4",)}, "offers no SOP class"),
        ({"syntaxes": ("1.2.840.10008.1.2.4.90",)}, "offers no SOP class"),
    ],
)
def test_what_is_on_no_list_is_rejected_before_anything_is_sent(tmp_path, settings, sentence):
    with receiver(tmp_path, **settings) as one:
        store(one.port, a_slice(tmp_path), options=["-R"], fails=True)
        assert not one.files()
        assert any(sentence in line for line in one.told())


@pytest.mark.parametrize(
    ("host", "address", "may"),
    [
        ("10.0.0.0/8", "::ffff:10.0.0.9", True),  # IPv4, where it listens at [::]
        ("10.0.0.0/8", "::ffff:11.0.0.9", False),
        ("10.0.0.0/8", "::1", False),
        ("fe80::/10", "fe80::9%lo", True),
    ],
)
def test_networks_are_of_both_kinds(host, address, may, capfd):
    server = object.__new__(association._Server)
    server._children, server.desk = {}, SimpleNamespace(hosts=[ipaddress.ip_network(host)])
    assert server.verify_request(None, (address, 4242, 0, 0)) == may
    assert ("may not connect" in capfd.readouterr().out) != may


def test_another_called_title_is_rejected(shared):
    command = [peer("echoscu"), "-aec", "OTHER", "127.0.0.1", str(shared.port)]
    assert subprocess.run(command, capture_output=True).returncode


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates and keys, each signed by itself."""
    folder = tmp_path_factory.mktemp("certificates")
    with peers():
        return {name: certificate(folder, name) for name in ("adae", "scanner", "stranger")}


@pytest.fixture(scope="module")
def encrypted(files, tmp_path_factory):
    """A receiver that wants the scanner's certificate."""
    (cert, key), (ca, _) = files["adae"], files["scanner"]
    folder = tmp_path_factory.mktemp("tls")
    with receiver(folder, cert=str(cert), key=str(key), ca=str(ca)) as one:
        yield one


def shown(files, who):
    """Options of dcmtk that show a certificate."""
    cert, key = files[who]
    return ["+tls", key, cert, "+cf", files["adae"][0]]


def test_a_certificate_opens(encrypted, files, tmp_path):
    assert echo(encrypted.port, *shown(files, "scanner"))
    store(encrypted.port, a_slice(tmp_path), options=shown(files, "scanner"))


@pytest.mark.parametrize("who", ["stranger", "", "plain"])
def test_others_do_not(encrypted, files, who):
    options = {"": ["+tla", "-ic"], "plain": []}.get(who)
    assert not echo(encrypted.port, *(shown(files, who) if options is None else options))
    assert echo(encrypted.port, *shown(files, "scanner"))


def test_silent_peers_keep_nobody_waiting_with_encryption(encrypted, files):
    with silent(encrypted.port, 8):
        assert echo(encrypted.port, *shown(files, "scanner"))


def test_its_processes_end_with_it(tmp_path):
    with receiver(tmp_path) as one, connected(one):
        children = one.children()
        assert children
        one.process.kill()
        one.process.wait()
        one.process.stdin.close()  # which is what a killed process does
        wait_until(lambda: not any(_runs(child) for child in children))


def _runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_receivers_do_not_share_a_spool(shared, monkeypatch):
    monkeypatch.setattr(received, "_PATIENCE_S", 0)
    with pytest.raises(SpoolInUse, match="in use by another receiver"):
        received.Received(shared.spool).prepare()


class TestCommitment:
    def asked(self, entity, one, handlers=(), **how):
        wanted = Dataset()
        wanted.TransactionUID = "1.2.3.99"
        wanted.ReferencedSOPSequence = []
        for uid in (UID, "1.2.3.4"):
            item = Dataset()
            item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            item.ReferencedSOPInstanceUID = uid
            wanted.ReferencedSOPSequence.append(item)
        entity.add_requested_context(StorageCommitmentPushModel)
        called = entity.associate(
            "127.0.0.1", one.port, ae_title="ADAE", evt_handlers=list(handlers), **how
        )
        assert called.is_established
        status, _ = called.send_n_action(
            wanted, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0
        return called

    def check(self, report):
        kind, said = report
        assert kind == 2
        assert said.TransactionUID == "1.2.3.99"
        assert [item.ReferencedSOPInstanceUID for item in said.ReferencedSOPSequence] == [UID]
        (failed,) = said.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.4", 0x0112)

    def take(self, reports):
        def handle(event):
            reports.append((event.event_type, event.event_information))
            return 0x0000, None

        return [(evt.EVT_N_EVENT_REPORT, handle)]

    def test_it_is_told_on_the_same_association(self, tmp_path):
        reports, sent = [], []
        count = evt.EVT_PDU_SENT, lambda event: sent.append(len(reports))
        with receiver(tmp_path) as one:
            store(one.port, a_slice(tmp_path))
            called = self.asked(AE("SCANNER"), one, [*self.take(reports), count])
            wait_until(lambda: 1 in sent)  # the report was answered
            called.release()
        self.check(reports[0])

    @contextmanager
    def archive(self, **how):
        """An archive that is called back within the block: its port, and what it is told."""
        reports, port = [], free_port()
        archive = AE("ARCHIVE")
        archive.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        server = archive.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=self.take(reports), **how
        )
        try:
            yield port, reports
        finally:
            server.shutdown()

    def test_a_peer_that_is_known_is_called_back(self, tmp_path):
        with (
            self.archive() as (port, reports),
            receiver(tmp_path, commit=(("ARCHIVE", "127.0.0.1", port),)) as one,
        ):
            store(one.port, a_slice(tmp_path))
            self.asked(AE("ARCHIVE"), one).release()
            wait_until(lambda: reports)
        self.check(reports[0])

    def test_a_peer_is_called_back_with_encryption(self, encrypting, files, tmp_path):
        context = self.tls(files, ssl.PROTOCOL_TLS_SERVER)
        with (
            self.archive(ssl_context=context) as (port, reports),
            encrypting(("ARCHIVE", "127.0.0.1", port)) as one,
        ):
            store(one.port, a_slice(tmp_path), options=shown(files, "scanner"))
            self.asked(AE("ARCHIVE"), one, tls_args=self.caller(files)).release()
            wait_until(lambda: reports)
        self.check(reports[0])

    def test_whoever_answers_in_its_place_is_told_nothing(self, encrypting, files):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = listener.getsockname()[1]
            with encrypting(("ARCHIVE", "127.0.0.1", place)) as one:
                self.asked(AE("ARCHIVE"), one, tls_args=self.caller(files)).release()
                listener.settimeout(HANGS_S)
                connection, _ = listener.accept()
                stranger = self.tls(files, ssl.PROTOCOL_TLS_SERVER, "stranger")
                with connection, pytest.raises(ssl.SSLError, match="unknown ca"):
                    stranger.wrap_socket(connection, server_side=True).recv(1)

    @pytest.fixture
    def encrypting(self, files, tmp_path):
        """Opens a receiver that wants the scanner's certificate and calls a peer back."""
        (cert, key), (ca, _) = files["adae"], files["scanner"]
        own = {"cert": str(cert), "key": str(key), "ca": str(ca)}
        return lambda peer: receiver(tmp_path, commit=(peer,), **own)

    def caller(self, files):
        """What shows the scanner's certificate to the receiver."""
        return self.tls(files, ssl.PROTOCOL_TLS_CLIENT), "adae"

    def tls(self, files, side, who="scanner"):
        """TLS of somebody who trusts the receiver."""
        context = ssl.SSLContext(side)
        context.load_cert_chain(*files[who])
        context.load_verify_locations(files["adae"][0])
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.mark.parametrize("name", ["dcmtk", "orthanc", "pynetdicom"])
def test_what_was_recorded_of_others_is_answered_and_kept(tmp_path, name):
    with receiver(tmp_path) as one, connected(one, associated=False) as connection:
        answers = []
        for part in recordings.read(name):
            connection.sendall(part)
            answers.append(connection.recv(2**16))
        kinds = [answer[0] for answer in answers]
        assert kinds == [2, *[4] * (len(kinds) - 2), 6]  # accepted, answered, released
        kept = {pydicom.dcmread(file).SOPInstanceUID: file for file in one.files()}
        assert sorted(kept) == sorted(recordings.UIDS)
        for number, uid in enumerate(recordings.UIDS):
            pixels = pydicom.dcmread(kept[uid]).pixel_array
            assert np.array_equal(pixels, recordings.pixels(number))
