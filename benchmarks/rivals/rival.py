"""A rival: what is installed into its environment, and the process that its contenders run in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_json

# Names of modules of this package, in the order of the table.
RIVALS = (
    "ours",
    "onnx_runtime",
    "open_vino",
    "pytorch",
    "anomalib",
    "anomavision",
    "pyod",
)
_BENCHMARKS = Path(__file__).parents[1]
# These folders come last, because modules in them share names with others.
_WORKER = "import sys; sys.path += {!r}; from rivals.worker import main; main({!r})"
PROJECT = "{project}"  # among packages: adae-edge from this checkout
_PROJECT_FOLDERS = ("adae_edge", "benchmarks", "export", "runtime", "train")
_PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")
_BUILD_S = 3600.0
_ANSWER_S = 600.0


class RivalError(AdaeEdgeError):
    """A rival cannot be installed, prepared, loaded or timed."""


@dataclass(frozen=True)
class Rival:
    """A rival in an environment of its own.

    Attributes:
        name: of the module that describes it, in ``package``.
        folder: of all rivals.
        package: of such modules.
    """

    name: str
    folder: Path
    package: str = "adae_edge.benchmarks.rivals"

    @property
    def module(self) -> Any:
        """What describes it; nothing of the rival itself is imported."""
        return import_module(f"{self.package}.{self.name}")

    @property
    def contenders(self) -> list[str]:
        """Names of what is timed."""
        return list(self.module.CONTENDERS)

    @property
    def environment(self) -> Path:
        """Folder of the environment."""
        return self.folder / "environments" / self.name

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.environment / "bin" / "python"

    @property
    def files(self) -> Path:
        """Folder of what its contenders load: files of its own, or adae-edge's models."""
        own = hasattr(self.module, "prepare")
        return self.folder / "files" / self.name if own else self.folder / "models"

    def install(self) -> None:
        """Make the environment and prepare the files, unless both are there as they have to be.

        Raises:
            RivalError: with the reason.
        """
        packages = list(self.module.PACKAGES)
        project = project_digest() if any(map(_is_project, packages)) else None
        wanted = {"packages": packages, "project": project}
        done = self.environment / "installed.json"
        there = json.loads(done.read_text()) if done.is_file() else {}
        if there.get("packages") != packages:
            shutil.rmtree(self.environment, ignore_errors=True)
            shutil.rmtree(self.folder / "files" / self.name, ignore_errors=True)
            self.environment.parent.mkdir(parents=True, exist_ok=True)
            _run([sys.executable, "-m", "venv", "--without-pip", str(self.environment)])
            self._pip(packages)
        elif there.get("project") != project:
            self._pip(filter(_is_project, packages), "--no-deps", "--force-reinstall")
        write_json(done, wanted)
        if hasattr(self.module, "prepare") and not (self.files / "prepared").is_file():
            shutil.rmtree(self.files, ignore_errors=True)
            self.files.mkdir(parents=True)
            with self.worker("prepare") as worker:
                worker.ask("prepare", folder=str(self.files))
            (self.files / "prepared").touch()

    def _pip(self, packages: Iterable[str], *options: str) -> None:
        """Install packages; the environment itself needs no pip."""
        project = self.folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        for path in project_files():
            copy = project / path.relative_to(_BENCHMARKS.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        named = [package.replace(PROJECT, str(project)) for package in packages]
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        _run([*pip, *options, *named])

    def versions(self) -> dict[str, str]:
        """The versions of what is installed, by package."""
        code = (
            "import importlib.metadata as m, json; "
            "print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        found: dict[str, str] = json.loads(_run([str(self.python), "-I", "-c", code]))
        return dict(sorted(found.items()))

    def size_mb(self) -> float:
        """What the environment takes on the disk as it was installed, MB."""
        files = (path for path in self.environment.rglob("*") if path.suffix != ".pyc")
        return sum(path.lstat().st_size for path in files if path.is_file()) / 1e6

    def worker(self, log: str, threads: int | None = None) -> Worker:
        """Start a process in its environment."""
        return Worker(self, self.folder / "logs" / f"{self.name}-{log}.txt", threads)


class Worker:
    """A process in a rival's environment, which answers calls; ends with the ``with`` block."""

    def __init__(self, rival: Rival, log: Path, threads: int | None = None) -> None:
        """
        Args:
            rival: whose process.
            log: file for what its libraries print.
            threads: what libraries that ask the environment are told.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        package = Path(str(rival.module.__file__)).parent
        folders = [str(_BENCHMARKS), str(package.parent)]
        code = _WORKER.format(folders, f"{package.name}.{rival.name}")
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(rival.folder / "compiled")}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with log.open("w") as errors:
            self._process = subprocess.Popen(  # noqa: S603
                [str(rival.python), "-I", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, what: str, payload: bytes | memoryview = b"", **arguments: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            RivalError: the worker failed, ended, or took ten minutes.
        """
        calls, answers = self._process.stdin, self._process.stdout
        assert calls is not None
        assert answers is not None
        late = threading.Timer(_ANSWER_S, self._process.kill)
        late.start()
        try:
            calls.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
            calls.write(payload)
            calls.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        finally:
            late.cancel()
        if not line:
            code = self._process.wait()
            raise RivalError(f"the worker ended without an answer to {what}, exit code {code}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RivalError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def project_files() -> Iterator[Path]:
    """The files that adae-edge is built from.

    Raises:
        RivalError: this is no checkout.
    """
    root = _BENCHMARKS.parent
    if not (root / "pyproject.toml").is_file():
        raise RivalError("adae-edge is installed from its source, which is in a checkout alone")
    yield from (root / name for name in _PROJECT_FILES)
    for name in _PROJECT_FOLDERS:
        yield from (
            path
            for path in sorted((root / name).rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        )


def project_digest() -> str:
    """What tells whether adae-edge changed since it was installed, but for its benchmarks."""
    digest = hashlib.sha256()
    for path in project_files():
        if _BENCHMARKS not in path.parents:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_project(package: str) -> bool:
    return package.startswith(PROJECT)


def _run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        RivalError: it failed, with the last line of what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_BUILD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RivalError(f"{Path(command[0]).name} did not end: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise RivalError(f"{' '.join(command[1:4])} failed: {said[-1]}")
    return done.stdout
