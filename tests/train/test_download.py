"""Downloads: over real HTTP from this machine, whole and verified or not at all."""

import hashlib
import io
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.data.download import OFFICIAL, Source, download
from tests.support.checkout import FILES, ROOT
from tests.support.shared import real

CONTENT = {"one.gz": b"1" * 300_000, "two.gz": b"2" * 10}


class Handler(SimpleHTTPRequestHandler):
    """Serves files; one name ends early, or stops in the middle until the test is over."""

    cut, stalled = "", ""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self.path.strip("/") not in (self.cut, self.stalled):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.wfile.write(path.read_bytes()[: path.stat().st_size // 2])
        self.wfile.flush()
        if self.path.strip("/") == self.stalled:
            time.sleep(3600)
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, the URL under which it is served, and the handler that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    handler = type("Handler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/", handler
    server.shutdown()
    thread.join()
    server.socket.close()  # not server_close, which would wait for a stalled answer


def md5(content):
    return hashlib.md5(content).hexdigest()


def files(base):
    return {"set": Source(base, {name: md5(content) for name, content in CONTENT.items()})}


def pack(path, *names):
    """A tar archive whose members have these names."""
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return md5(path.read_bytes())


def test_files_arrive_whole_and_a_second_call_fetches_nothing(served, tmp_path):
    folder, base, _ = served
    out = tmp_path / "new" / "out"
    assert download("set", out, files(base)) == [out / name for name in CONTENT]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == CONTENT
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in out.iterdir())
    for name in CONTENT:
        (folder / name).unlink()
    assert download("set", out, files(base)) == [out / name for name in CONTENT]


def test_an_archive_is_unpacked_and_not_kept(served, tmp_path):
    folder, base, _ = served
    checksum = pack(folder / "a.tar.gz", "batches/data_batch_1.bin", "batches/readme.html")
    inside = {"data_batch_1.bin": md5(b"abc")}
    sources = {"set": Source(base, {"a.tar.gz": checksum}, unpacked="batches", inside=inside)}
    batch = tmp_path / "out" / "batches" / "data_batch_1.bin"
    for _ in range(2):
        assert download("set", tmp_path / "out", sources) == [tmp_path / "out" / "batches"]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["batches"]
        assert batch.read_bytes() == b"abc"
        (folder / "a.tar.gz").unlink(missing_ok=True)
    batch.write_bytes(b"abd")
    for _ in range(2):
        with pytest.raises(
            UsageError,
            match=r"batches is there already, and its data_batch_1\.bin is missing or another",
        ):
            download("set", tmp_path / "out", sources)
        batch.unlink(missing_ok=True)


def test_a_wrong_file_is_refused_and_leaves_nothing(served, tmp_path):
    folder, base, _ = served
    (folder / "one.gz").write_bytes(b"1" * 299_999 + b"x")
    with pytest.raises(DatasetError, match=r"one\.gz is refused: its checksum"):
        download("set", tmp_path / "out", files(base))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_download_that_ends_early_is_refused_and_leaves_nothing(served, tmp_path):
    _, base, handler = served
    handler.cut = "one.gz"
    with pytest.raises(DatasetError, match=r"one\.gz"):
        download("set", tmp_path / "out", files(base))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_arrived_before_a_failure_stays(served, tmp_path):
    folder, base, _ = served
    (folder / "two.gz").unlink()
    with pytest.raises(DatasetError, match=r"two\.gz cannot be downloaded: .*404"):
        download("set", tmp_path / "out", files(base))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.gz"]
    (folder / "two.gz").write_bytes(CONTENT["two.gz"])
    download("set", tmp_path / "out", files(base))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == CONTENT


def test_ctrl_c_in_the_middle_leaves_nothing(served, tmp_path):
    _, base, handler = served
    handler.stalled = "one.gz"
    out = tmp_path / "out"
    code = (
        "import sys\n"
        "from adae_edge import cli\n"
        "from adae_edge.train.data import download\n"
        f"source = download.Source({base!r}, {files(base)['set'].md5!r})\n"
        "download.OFFICIAL['mnist'] = source\n"
        f"sys.argv = ['adae-edge', 'download', 'mnist', {str(out)!r}]\n"
        "cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(
        path.stat().st_size for path in out.rglob("*") if path.is_file()
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "adae-edge: stopped\n"
    assert list(out.iterdir()) == []


def test_what_a_killed_download_left_goes_and_a_running_one_stays(served, tmp_path):
    _, base, handler = served
    handler.stalled = "one.gz"
    out = tmp_path / "out"
    code = (
        "from pathlib import Path\n"
        "from adae_edge.train.data.download import Source, download\n"
        f"source = Source({base!r}, {files(base)['set'].md5!r})\n"
        f"download('set', Path({str(out)!r}), {{'set': source}})"
    )

    def started(before):
        process = subprocess.Popen([sys.executable, "-c", code])
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for path in set(out.glob(".download-set-*")) - before:
                if any(file.stat().st_size for file in path.iterdir()):
                    return process, path
            time.sleep(0.05)
        raise AssertionError("nothing was downloaded")

    first, left = started(set())
    first.kill()
    first.wait()
    second, running = started({left})
    assert not left.exists()
    third, _ = started({running})
    assert running.exists()
    for process in (second, third):
        process.kill()
        process.wait()
    (out / ".download-other-1").mkdir()
    handler.stalled = ""
    download("set", out, files(base))
    assert sorted(path.name for path in out.iterdir()) == [".download-other-1", *CONTENT]


def test_the_real_batches_are_the_published_ones():
    folder = real("cifar-10-batches-bin")
    inside = OFFICIAL["cifar10"].inside
    assert set(inside) == {
        *(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
    }
    for name, checksum in inside.items():
        if (folder / name).is_file():  # the test batch may be absent
            assert md5((folder / name).read_bytes()) == checksum


def test_nobody_there(tmp_path):
    with pytest.raises(DatasetError, match="cannot be downloaded") as refused:
        download("set", tmp_path / "out", files("http://127.0.0.1:9/"))
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "batches/../../escape"])
def test_an_archive_writes_nowhere_else(served, tmp_path, name):
    folder, base, _ = served
    checksum = pack(folder / "a.tar.gz", "batches/x", name)
    out = tmp_path / "out"
    with pytest.raises(DatasetError, match=r"a\.tar\.gz cannot be unpacked"):
        download("set", out, {"set": Source(base, {"a.tar.gz": checksum}, unpacked="batches")})
    assert list(out.iterdir()) == []
    assert not [path for path in tmp_path.rglob("escape*")]


def test_a_file_that_is_there_and_another_one_stays(served, tmp_path):
    (tmp_path / "one.gz").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"one\.gz is there already"):
        download("set", tmp_path, files(served[1]))
    assert (tmp_path / "one.gz").read_bytes() == b"mine"


def test_an_unknown_name_is_told_what_there_is(tmp_path):
    with pytest.raises(UsageError, match="mnist or cifar10"):
        download("imagenet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_official_sources_are_over_https_with_checksums():
    for source in OFFICIAL.values():
        assert source.base.startswith("https://")
        assert source.base.endswith("/")
        assert all(re.fullmatch("[0-9a-f]{32}", checksum) for checksum in source.md5.values())


def test_no_other_code_downloads():
    users = [
        str(path)
        for path in FILES
        if re.search(r"train\.data(\.| import )download", (ROOT / path).read_text())
    ]
    assert users == ["adae_edge/cli/train.py"]
