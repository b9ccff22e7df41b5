"""Checkpoints: one .safetensors file that training writes and the export reads.

tensors
  model.*             weights of G and D
  reference.N         some calibration normals as raw frames, for the export's parity gate
  statistics.0, .1    their means and standard deviations, if they are in modality units
  pictures            training normals, grey and small, for what an evaluation compares with
  seen                tells the frames of the training from others
  state.*             the optimizers' state, while the training is unfinished
header
  adae_edge.training  how the training was set up and how far it is
  adae_edge.contract  the contract, once the training is finished
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.errors import CheckpointError, ContractError, UsageError
from adae_edge.extras import needs
from adae_edge.formats.files import write_atomically
from adae_edge.interface import inputs_of

CONTRACT_KEY = "adae_edge.contract"
TRAINING_KEY = "adae_edge.training"
REFERENCE_FRAMES = 64
REFERENCE_BYTES = 32 * 2**20
PICTURE_BYTES = 4 * 2**20


def _no_pictures() -> NDArray[np.uint8]:
    return np.empty((0, 32, 32), np.uint8)


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        weights: tensors of G and D by name, as in ``ADAE.state_dict()``.
        training: how the training was set up and how far it is; JSON types only.
        contract: None while the training is unfinished.
        references: raw calibration normals, uint8 or float32 [H, W, C] each.
        statistics: mean and std of the references, float32 [R] each, for frames of kind "modality";
            else empty.
        state: the optimizers' tensors; empty once the training is finished.
        seen: uint8 [N, 8], the beginnings of the SHA-256 of the frames that trained and calibrated,
            so that no evaluation counts one of them as unseen.
        pictures: uint8 [M, S, S], training normals, grey and small; none where no picture may
            travel, or while the training is unfinished.
    """

    weights: dict[str, NDArray[Any]]
    training: dict[str, Any]
    contract: Contract | None = None
    references: list[NDArray[np.uint8 | np.float32]] = field(default_factory=list)
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    seen: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 8), np.uint8))
    statistics: list[NDArray[np.float32]] = field(default_factory=list)
    pictures: NDArray[np.uint8] = field(default_factory=_no_pictures)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; a checkpoint that was there stays until then."""
        save = _safetensors().save
        tensors = {f"model.{name}": value for name, value in self.weights.items()}
        tensors |= {f"state.{name}": value for name, value in self.state.items()}
        tensors |= {f"reference.{index}": frame for index, frame in enumerate(self.references)}
        tensors |= {f"statistics.{index}": values for index, values in enumerate(self.statistics)}
        tensors["seen"] = self.seen
        if len(self.pictures):
            tensors["pictures"] = self.pictures
        header = {TRAINING_KEY: json.dumps(self.training, sort_keys=True)}
        if self.contract is not None:
            header[CONTRACT_KEY] = self.contract.to_json()
        contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        write_atomically(path, _sorted(save(contiguous, metadata=header)))

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Read and check a checkpoint.

        Raises:
            UsageError: there is no such file.
            CheckpointError: no safetensors file, cut short, or not written by adae-edge.
        """
        safetensors = _safetensors()
        if not path.is_file():
            raise UsageError(f"there is no checkpoint {path}")
        foreign = f"{path} is a safetensors file, but no checkpoint of adae-edge"
        try:
            data = path.read_bytes()
            tensors = safetensors.load(data)
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
            training = json.loads(header[TRAINING_KEY])
            contract = Contract.from_json(header[CONTRACT_KEY]) if CONTRACT_KEY in header else None
        except KeyError as error:
            raise CheckpointError(foreign) from error
        except ContractError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        except Exception as error:  # safetensors and the JSON of a stranger raise many kinds
            what = "not a whole safetensors file"
            if path.suffix == ".onnx":
                what = "a model file, and what it was exported from is wanted"
            raise CheckpointError(f"{path} is no checkpoint: {what}") from error

        references = _part(tensors, "reference.")
        statistics = [value for _, value in sorted(_part(tensors, "statistics.").items())]
        wanted = []
        if references and contract is not None:
            beside_frames = inputs_of(contract)[1:]
            wanted = [(len(references),)] * len(beside_frames)
        numbered = all(name.isdecimal() for name in references)
        complete = [values.shape for values in statistics] == wanted
        pictures = tensors.get("pictures", _no_pictures())
        if not (isinstance(training, dict) and numbered and complete and _are_pictures(pictures)):
            raise CheckpointError(foreign)
        return Checkpoint(
            weights=_part(tensors, "model."),
            training=training,
            contract=contract,
            references=[references[name] for name in sorted(references, key=int)],
            state=_part(tensors, "state."),
            seen=tensors.get("seen", np.empty((0, 8), np.uint8)),
            statistics=statistics,
            pictures=pictures,
        )


def _part(tensors: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The tensors whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _are_pictures(tensor: NDArray[Any]) -> bool:
    """Whether a tensor can be the checkpoint's small pictures: uint8 [M, S, S], 4 MiB at most."""
    return (
        tensor.dtype == np.uint8
        and tensor.ndim == 3
        and tensor.shape[1] == tensor.shape[2]
        and tensor.shape[1] in (32, 64)
        and tensor.nbytes <= PICTURE_BYTES
    )


def _sorted(data: bytes) -> bytes:
    """The same safetensors file with the keys of its header in order, and not in one of chance."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    padded = header.encode().ljust(-(-len(header.encode()) // 8) * 8)
    return len(padded).to_bytes(8, "little") + padded + data[8 + length :]


def choose_references(
    frames: list[NDArray[np.uint8 | np.float32]],
) -> list[NDArray[np.uint8 | np.float32]]:
    """The first frames, as many as a checkpoint may carry: 64, or 32 MiB, but at least one."""
    chosen: list[NDArray[np.uint8 | np.float32]] = []
    size = 0
    for frame in frames[:REFERENCE_FRAMES]:
        size += frame.nbytes
        if chosen and size > REFERENCE_BYTES:
            break
        chosen.append(frame)
    return chosen


def _safetensors() -> Any:
    with needs("Reading or writing a checkpoint", "train"):
        import safetensors.numpy
    return safetensors.numpy
