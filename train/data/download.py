"""Fetching MNIST and CIFAR-10, by explicit command alone; no other file opens a connection."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pooch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from adae_edge.errors import DatasetError, UsageError


@dataclass(frozen=True)
class Source:
    """Where a data set is published.

    Attributes:
        base: the URL of the folder, with the slash at its end.
        md5: each file's name and checksum.
        unpacked: the folder that the only file, a tar archive, holds; "" for files that stay as
            they are.
        inside: the names and checksums of the files in that folder which a training reads.
    """

    base: str
    md5: Mapping[str, str]
    unpacked: str = ""
    inside: Mapping[str, str] = field(default_factory=dict)


OFFICIAL = {
    "mnist": Source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        unpacked="cifar-10-batches-bin",
        inside={
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
    ),
}


def download(name: str, folder: Path, sources: Mapping[str, Source] = OFFICIAL) -> list[Path]:
    """Fetch a data set's files, each verified before it gets its name.

    Files that are there already are verified, too, and stay.

    Args:
        name: "mnist" or "cifar10".
        folder: where the files go; it is made where it is missing.
        sources: where they are published.

    Returns:
        The files of MNIST, or the folder of CIFAR-10's batches.

    Raises:
        UsageError: no such data set, or the folder holds something else under a name that is
            needed.
        DatasetError: a file cannot be fetched, or is not the one that was published.
    """
    if name not in sources:
        raise UsageError(f"there is no data set {name} to download: choose {' or '.join(sources)}")
    source = sources[name]
    names = [source.unpacked] if source.unpacked else list(source.md5)
    results = [folder / name for name in names]

    # what is there has to be what was published
    for path in results:
        if path.exists() and (wrong := _wrong(path, source)):
            what = "is" if wrong == path else f"its {wrong.name} is missing or"
            raise UsageError(
                f"{path} is there already, and {what} another one: remove it, or choose another "
                "folder"
            )

    # what is missing gets its name once it is whole and verified
    missing = [path.name for path in results if not path.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with _workshop(folder, f".download-{name}-") as temporary:
            for file in source.md5 if source.unpacked else missing:
                fetched = _fetch(source.base + file, source.md5[file], temporary)
                if source.unpacked:
                    fetched = _unpack(fetched) / source.unpacked
                    if not fetched.is_dir():
                        raise DatasetError(f"{source.base}{file} holds no folder {source.unpacked}")
                fetched.rename(folder / fetched.name)
    return results


def _wrong(path: Path, source: Source) -> Path | None:
    """Find a file, of a result that is there, which is not the published one; None if all are."""
    if source.unpacked:
        files = {path / name: md5 for name, md5 in source.inside.items()}
    else:
        files = {path: source.md5[path.name]}
    for file, md5 in files.items():
        if not file.is_file() or _md5(file) != md5:
            return file
    return None


@contextlib.contextmanager
def _workshop(folder: Path, prefix: str) -> Iterator[Path]:
    """Make a temporary folder, and remove those of killed downloads, which nobody locks."""
    for left in folder.glob(f"{prefix}*"):
        with (
            contextlib.suppress(Timeout, FileNotFoundError),
            FileLock(left / ".lock", blocking=False),
        ):
            shutil.rmtree(left, ignore_errors=True)
    # Another process may be looking for the lock while the folder goes: it removes what is left.
    with (
        tempfile.TemporaryDirectory(
            prefix=prefix, dir=folder, ignore_cleanup_errors=True
        ) as temporary,
        FileLock(Path(temporary) / ".lock"),
    ):
        yield Path(temporary)


def _fetch(url: str, md5: str, folder: Path) -> Path:
    """Download one file and verify it."""
    pooch.get_logger().setLevel(logging.WARNING)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    name = url.rpartition("/")[2]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        downloader = pooch.HTTPDownloader(progressbar=_Bar(progress, name), chunk_size=2**16)
        try:
            path = Path(pooch.retrieve(url, f"md5:{md5}", name, folder, downloader=downloader))
        except ValueError as error:
            raise DatasetError(
                f"{url} is refused: its checksum is not {md5}, so it is damaged or another file"
            ) from error
        except OSError as error:  # what the connection raises is one, too
            raise DatasetError(f"{url} cannot be downloaded: {error}") from error
    path.chmod(0o644)  # temporary files are for their owner alone
    return path


class _Bar:
    """What pooch expects of a progress bar, on rich's."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def update(self, count: int) -> None:
        self._progress.update(self._task, advance=count, total=self.total or None)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        pass


def _unpack(archive: Path) -> Path:
    """Unpack an archive into a folder beside it."""
    folder = archive.parent / "unpacked"
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")  # refuses what would land outside the folder
    except (tarfile.TarError, EOFError) as error:
        raise DatasetError(f"{archive.name} cannot be unpacked: {error}") from error
    return folder


def _md5(path: Path) -> str:
    return str(pooch.file_hash(str(path), alg="md5"))
