"""An engine against ONNX Runtime, on the device: where PyTorch is not, and frames of the training are not either."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adae_edge.errors import FrameError, ParityError
from adae_edge.export.extremes import as_inputs, extreme_frames, tolerance_of
from adae_edge.runtime import Scorer


def compare(path: Path, model: Path) -> tuple[int, float]:
    """Compare the scores of extreme frames by an engine, or any other file, with those of a model file on the CPU.

    Args:
        path: the engine.
        model: the model file from which it was built.

    Returns:
        How many scores were compared, and the largest difference relative to ONNX Runtime's score.

    Raises:
        ParityError: a score is further away than the gate of the export allows for any frame of
            this precision, or no frame could be compared, because the engine takes none of these
            sizes.
        AdaeEdgeError: one of the files cannot be run on this machine.
    """
    scorer, reference = Scorer(path), Scorer(model)
    allowed = tolerance_of(reference.contract)[1]
    errors = []
    for name, frame in extreme_frames(reference.contract):
        inputs = [np.asarray(part)[None] for part in as_inputs(frame, reference.contract)]
        try:
            found = float(scorer.score(*inputs)[0])
        except FrameError:  # a size that it was not built for
            continue
        expected = float(reference.score(*inputs)[0])
        errors.append(abs(found - expected) / max(abs(expected), 1e-3))
        if not np.isfinite(found) or not errors[-1] <= allowed:
            raise ParityError(
                f"{path} scores {name} as {found:.6g} where {model} gives {expected:.6g}, and "
                f"{allowed:.0e} is allowed"
            )
    if not errors:
        raise ParityError(f"{path} takes no frame of the sizes with which it would be compared")
    return len(errors), max(errors)
