"""An engine against ONNX Runtime, on the device, where PyTorch and real frames are not."""

from __future__ import annotations

import math
from typing import NamedTuple

from adae_edge.errors import FrameError, ParityError
from adae_edge.export.extremes import extreme_frames
from adae_edge.export.tolerances import relative_errors, tolerance_of
from adae_edge.formats.enginefile import Engine
from adae_edge.formats.modelfile import ModelFile
from adae_edge.runtime import Scorer


class EngineParity(NamedTuple):
    """How close an engine's scores are to ONNX Runtime's.

    Attributes:
        scores: how many were compared.
        error: the largest difference, relative to ONNX Runtime's score.
    """

    scores: int
    error: float


def compare(engine: Engine | ModelFile, model: ModelFile) -> EngineParity:
    """Compare the scores of extreme frames by an engine with those of its model file on the CPU.

    Args:
        engine: the engine; in tests, where there is no GPU, another model file.
        model: the model file from which it was built.

    Raises:
        ParityError: a score is further away than the gate of the export allows for any frame of
            this precision, or no frame could be compared, because the engine takes none of these
            sizes.
        MissingExtra: ONNX Runtime is not installed.
        AdaeEdgeError: one of the two cannot be run on this machine.
    """
    allowed = tolerance_of(model.contract).largest
    errors: list[float] = []
    with Scorer(engine) as scorer, Scorer(model) as reference:
        for name, batch in extreme_frames(model.contract).items():
            try:
                scores = scorer.score(*batch.arrays())
            except FrameError:  # a size that it was not built for
                continue
            expected = reference.score(*batch.arrays())
            error = float(relative_errors(scores, expected)[0])
            if not (math.isfinite(error) and error <= allowed):
                raise ParityError(
                    f"the engine scores {name} as {scores[0]:.6g} where the model file gives "
                    f"{expected[0]:.6g}, and {allowed:.0e} is allowed: nothing was written"
                )
            errors.append(error)
    if not errors:
        raise ParityError(
            "the engine takes no frame of the sizes with which it would be compared: nothing was "
            "written"
        )
    return EngineParity(len(errors), max(errors))
