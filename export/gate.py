"""The parity gate: the exported graph, run by the runtime, must score as the trained network does."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adae_edge.devices import DEVICES
from adae_edge.errors import AdaeEdgeError, ParityError
from adae_edge.export.extremes import Inputs, as_inputs, extreme_frames, tolerance_of
from adae_edge.export.forms import Fused
from adae_edge.formats.modelfile import ModelFile
from adae_edge.model import ADAE
from adae_edge.runtime import Scorer

# A map's error is that of one pixel, which the score averages over all of them.
MAP_SLACK = 10
BATCHES = (1, 2, 7)
_REFERENCE = "reference frame"


@dataclass(frozen=True)
class Parity:
    """What the gate measured.

    Attributes:
        scores: how many pairs of scores were compared.
        error: difference relative to PyTorch's score that nine reference frames in ten keep to.
        tolerance: what would have been refused.
        flipped: decisions at the threshold that differ, of reference frames.
        verified: backends that were asked, as "onnxruntime cpu".
        unverified: backends that this machine lacks.
    """

    scores: int
    error: float
    tolerance: float
    flipped: int
    verified: tuple[str, ...]
    unverified: tuple[str, ...]


def check_parity(
    model: ADAE, formed: ADAE, exported: ModelFile, references: Sequence[Inputs]
) -> Parity:
    """Compare the graph's scores with PyTorch's on real and on extreme frames, alone and in batches.

    Every backend that this machine has is asked. For fp16 PyTorch's own float16 is asked, too,
    because ONNX Runtime's CPU may compute parts of such a graph in float32.

    Args:
        model: the trained network in eval mode.
        formed: the same in the form that was traced.
        exported: the model file that is about to be written.
        references: real frames, each with what else the network takes for it.

    Raises:
        ParityError: a score differs by more than the tolerance, alone or in some batch or order, or
            an anomaly map does; says which frame, and how far.
    """
    contract, form = exported.contract, exported.contract.form
    assert form is not None
    typical, largest = tolerance_of(contract)
    groups: dict[tuple[int, ...], list[tuple[str, Inputs]]] = defaultdict(list)
    extremes = [(name, as_inputs(frame, contract)) for name, frame in extreme_frames(contract)]
    for name, inputs in [
        *((f"{_REFERENCE} {i}", one) for i, one in enumerate(references)),
        *extremes,
    ]:
        groups[inputs[0].shape].append((name, inputs))
    threshold = np.float32(contract.calibration.threshold)
    scorers, unverified = _scorers(exported)
    compared = flipped = 0
    errors: list[float] = []
    for named in groups.values():
        names = [name for name, _ in named]
        real = np.array([name.startswith(_REFERENCE) for name in names])
        stacked = [
            np.stack(column) for column in zip(*(inputs for _, inputs in named), strict=True)
        ]
        expected = _by_pytorch(model, stacked)
        found = [
            (f"{what} by {by}", scores)
            for by, one in scorers.items()
            for what, scores in _arranged(one, stacked)
        ]
        if form.precision == "fp16":
            found.append(("by PyTorch in float16", _by_pytorch(formed, stacked)))
        for what, scores in found:
            error = np.abs(scores - expected) / np.maximum(np.abs(expected), 1e-3)
            allowed = np.where(np.isfinite(scores) & np.isfinite(expected), largest, -1)
            if (error > allowed).any() or (allowed < 0).any():
                at = int(np.where(allowed < 0, np.inf, error).argmax())
                raise ParityError(
                    f"the graph scores {names[at]} {what} as {scores[at]:.6g} where the network "
                    "gives "
                    f"{expected[at]:.6g}, {error[at]:.1e} apart and {largest:.0e} is allowed: "
                    "nothing was written"
                )
            errors += error[real].tolist()
            compared += len(scores)
            flipped += int(((scores > threshold) != (expected > threshold))[real].sum())
        if form.anomaly_map is not None:
            for by, scorer in scorers.items():
                _check_maps(model, scorer, by, names, stacked, MAP_SLACK * largest)
    error_of_most = float(np.percentile(errors, 90))
    if error_of_most > typical:
        raise ParityError(
            f"one reference frame in ten is scored more than {error_of_most:.1e} apart from the "
            "network's score, and "
            f"{typical:.0e} is allowed: nothing was written"
        )
    return Parity(compared, error_of_most, typical, flipped, tuple(scorers), unverified)


def _scorers(exported: ModelFile) -> tuple[dict[str, Scorer], tuple[str, ...]]:
    """The file's scorer on each backend that this machine has, by name, and the names of the others."""
    scorers: dict[str, Scorer] = {}
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(exported.data)
        for device in DEVICES:
            name = f"onnxruntime {device}"
            try:
                scorers[name] = Scorer(path, device)
            except AdaeEdgeError:
                if device == "cpu":
                    raise
                missing.append(name)
    return scorers, tuple(missing)


def as_seen(model: ADAE, references: Sequence[Inputs]) -> torch.Tensor:
    """Real frames, and black, white and noise, as the network sees them: float32 [N, C, S, S]."""
    with torch.inference_mode():
        real = [
            model.preprocess(*(torch.from_numpy(np.array(array)[None]) for array in one))
            for one in references
        ]
        shape = (1, model.channels, model.preprocess.side, model.preprocess.side)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return torch.cat([*real, -torch.ones(shape), torch.ones(shape), 2 * noise - 1])


def _by_pytorch(model: ADAE, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """PyTorch's scores of the frames one by one."""
    with torch.inference_mode():
        alone = [
            [torch.from_numpy(array[i : i + 1]) for array in inputs] for i in range(len(inputs[0]))
        ]
        return np.concatenate([model(*one).numpy() for one in alone])


def _check_maps(
    model: ADAE,
    scorer: Scorer,
    by: str,
    names: list[str],
    inputs: list[NDArray[Any]],
    allowed: float,
) -> None:
    """Compare each frame's anomaly map with PyTorch's, in relation to the map's largest value."""
    fused = Fused(model, scorer.form.anomaly_map)
    for index, name in enumerate(names):
        alone = [array[index : index + 1] for array in inputs]
        _, found = scorer.score_with_map(*alone)
        with torch.inference_mode():
            expected = fused(*map(torch.from_numpy, alone))[1].numpy()
        error = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-3))
        if found.shape != expected.shape or not (error <= allowed and math.isfinite(error)):
            raise ParityError(
                f"the anomaly map of {name} by {by} is {error:.1e} of its largest value from the "
                "network's, "
                f"and {allowed:.0e} is allowed: nothing was written"
            )


def _arranged(scorer: Scorer, inputs: list[NDArray[Any]]) -> list[tuple[str, NDArray[np.float32]]]:
    """The same frames' scores: in batches of several sizes, and in another order."""
    count = len(inputs[0])
    found = []
    for size in BATCHES:
        if size == 1 or count >= size:
            parts = [
                scorer.score(*(array[at : at + size] for array in inputs))
                for at in range(0, count, size)
            ]
            found.append((f"in batches of {size}", np.concatenate(parts)))
    if count > 1:
        order = np.random.default_rng(0).permutation(count)
        shuffled = np.empty(count, np.float32)
        shuffled[order] = scorer.score(*(array[order] for array in inputs))
        found.append(("in another order", shuffled))
    return found
