"""A new threshold for an exported model, from normal frames, on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adae_edge import modelfile
from adae_edge.calibration import DEFAULT_FPR, calibrate
from adae_edge.contract import Contract
from adae_edge.errors import FrameError, ModelFileError, UsageError
from adae_edge.files import write_atomically
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources import open_source


def recalibrate(
    path: Path,
    normals: str,
    fpr: float = DEFAULT_FPR,
    device: str = "cpu",
    window: tuple[float, float] | None = None,
    brain_mask: Path | None = None,
) -> Contract:
    """Set a model file's threshold from the scores of normal frames.

    The file before is kept beside it as FILE.previous.

    Args:
        path: the model file.
        normals: a source of normal frames that ends, as on the command line.
        fpr: target false-positive rate.
        device: "cpu" or "cuda".
        window: centre and width for DICOM files, in place of their own.
        brain_mask: for NIfTI volumes that are not skull-stripped.

    Returns:
        The new contract.

    Raises:
        UsageError: too few frames for the rate, or a camera, which never ends.
        FrameError: a frame cannot be decoded or scored; the model file stays as it was.
    """
    before = path.read_bytes() if path.is_file() else b""
    scorer = Scorer(path, device)
    source = open_source(normals, window, scorer.contract.kind, brain_mask)
    if source.live:
        raise UsageError("a camera never ends: record the normal frames first, and calibrate on the files")
    scores = []
    for frame in source:
        if isinstance(frame, FrameError):
            raise frame
        scores.append(scorer.score(*frame.inputs(scorer.contract.channels))[0])
    contract = scorer.contract.with_calibration(calibrate(np.array(scores, np.float32), fpr))
    if path.read_bytes() != before:
        raise ModelFileError(f"{path} was changed while it was calibrated, and is left as it is")
    after = modelfile.with_contract(before, contract)
    modelfile.check(after)  # scores that no contract can hold, below 0 for example, are found here
    write_atomically(path.with_name(path.name + ".previous"), before)
    write_atomically(path, after)
    return contract
