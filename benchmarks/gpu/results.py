"""What a section is told, and how it keeps what it measured."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec

P = ParamSpec("P")


@dataclass(frozen=True)
class Settings:
    """What every section is told.

    Attributes:
        device: "cuda", or "cpu" to try the kit where there is no GPU.
        models: folder of the model files to score with.
        mnist: folder of MNIST's four files, or None where they are not there.
        work: folder for what a section writes beside its results.
        seconds: how long each case is timed.
    """

    device: str
    models: Path
    mnist: Path | None
    work: Path
    seconds: float

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what ``to_json`` wrote."""
        fields = json.loads(text)
        mnist = fields["mnist"] and Path(fields["mnist"])
        folders = {"models": Path(fields["models"]), "mnist": mnist, "work": Path(fields["work"])}
        return cls(**fields | folders)

    def to_json(self) -> str:
        """Write the settings as an argument for another process."""
        return json.dumps(asdict(self), default=str)

    @property
    def on_gpu(self) -> bool:
        """Whether this is the real measurement, on a GPU."""
        return self.device == "cuda"

    def model_files(self) -> dict[str, Path]:
        """Return the model files by name."""
        return {path.stem: path for path in sorted(self.models.glob("*.onnx"))}


class Results:
    """Results of a section by name; a section that is ended leaves what it has in its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}

    def add(self, name: str, result: Any) -> None:
        """Keep a result of JSON types, and show it."""
        self.values[name] = result
        self._path.write_text(json.dumps(self.values))
        print(name, json.dumps(result), flush=True)

    def attempt(
        self, name: str, call: Callable[P, Any], *arguments: P.args, **options: P.kwargs
    ) -> bool:
        """Keep what a call with these arguments returns, or how it failed.

        Returns:
            Whether it did not fail.
        """
        try:
            result = call(*arguments, **options)
        except Exception as error:
            traceback.print_exc()
            first_line = (str(error).splitlines() or [""])[0][:300]
            self.add(name, {"failed": f"{type(error).__name__}: {first_line}"})
            return False
        self.add(name, result)
        return True

    def skip(self, name: str, reason: str) -> None:
        """Say why a case was not measured."""
        self.add(name, {"skipped": reason})
