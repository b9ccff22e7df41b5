"""How well anomaly maps show where the defects are: pixel AUROC and AUPRO against masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import auc

from adae_edge.maps import score_with_map
from adae_edge.model import ADAE
from adae_edge.train.data.masks import load_mask
from adae_edge.train.loading import inputs_of
from adae_edge.train.unseen import UnseenFrames
from adae_edge.train.yardsticks import LOWER, Pictures, small_pictures, with_side

MOST_FALSE = 0.3  # false-positive rate up to which the AUPRO counts

_BINS = 2**16

Map = NDArray[np.float32]


@dataclass(frozen=True)
class PixelFigures:
    """How well one map of each frame separates pixels of defects from all others.

    Attributes:
        name: what the map shows.
        auroc: over all pixels.
        aupro: area under the mean overlap with each connected region of defect, over the
            false-positive rate up to 0.3, as part of the whole (Bergmann et al. 2021, "The MVTec
            Anomaly Detection Dataset", section 5).
    """

    name: str
    auroc: float
    aupro: float


@dataclass(frozen=True)
class Localisation:
    """How well the model's map and simpler ones show the defects of unseen frames.

    Attributes:
        model: of the model's own anomaly map.
        simple: of maps without a network, the one with the largest AUPRO first.
        masked: anomalous frames whose masks were compared.
        unmasked: anomalous frames that were left out, because they have no mask or an empty one.
    """

    model: PixelFigures
    simple: tuple[PixelFigures, ...]
    masked: int
    unmasked: int

    def rows(self) -> dict[str, str]:
        """The figures by name, in words for the terminal."""
        auroc = "".join(f"; {other.auroc:.4f} by {other.name}" for other in self.simple)
        aupro = "".join(f"; {other.aupro:.4f} by {other.name}" for other in self.simple)
        left_out = f"; {self.unmasked} without one are left out" if self.unmasked else ""
        return {
            "pixel AUROC": f"{self.model.auroc:.4f}{auroc}",
            "AUPRO": f"{self.model.aupro:.4f}{aupro}",
            "masks": f"of {self.masked} anomalous frames{left_out}",
        }


def localise(model: ADAE, known: Pictures, unseen: UnseenFrames) -> Localisation | None:
    """Compare anomaly maps of unseen frames with the masks of their defects.

    All maps are compared in the frame's pixels. A normal frame has no defect.

    Args:
        model: in eval mode.
        known: uint8 [M, S, S], small pictures of training normals; may be empty.
        unseen: the frames.

    Returns:
        The figures; None where no frame has a mask, or no pixel is without a defect.

    Raises:
        FrameError: a mask cannot be decoded, or has another size than its frame.
        DatasetError: frames that cannot be decoded.
    """
    if not any(unseen.dataset.masks):
        return None
    tallies: dict[str, _Tally] = {}
    masked = unmasked = 0
    for index, frame, maps in _maps(model, known, unseen):
        defect = np.zeros(frame.shape[:2], np.bool_)
        if unseen.anomalous[index]:
            path = unseen.dataset.masks[unseen.indices[index]]
            defect = defect if path is None else load_mask(path, frame.shape[:2])
            if not defect.any():
                unmasked += 1
                continue
            masked += 1
        for name, values in maps.items():
            tallies.setdefault(name, _Tally()).add(values, defect)
    if not masked or not all(tally.normal.any() for tally in tallies.values()):
        return None

    own, *simple = (PixelFigures(name, *tally.figures()) for name, tally in tallies.items())
    *others, dark, light = simple
    others.append(max(dark, light, key=lambda figures: figures.auroc))
    ordered = sorted(others, key=lambda figures: -figures.aupro)
    return Localisation(own, tuple(ordered), masked, unmasked)


def _maps(
    model: ADAE, known: Pictures, unseen: UnseenFrames
) -> Iterator[tuple[int, NDArray[np.uint8], dict[str, Map]]]:
    """Each unseen frame's number, pixels [H, W, C], and maps [H, W] by name, the model's first."""
    small, differences = None, None
    if len(known):
        small = with_side(model.preprocess, known.shape[1])
        pictures = small_pictures(model, unseen.dataset, unseen.indices, known.shape[1])
        differences = np.abs(pictures - known.mean(axis=0, dtype=np.float32))
    index = 0
    for frames, *statistics in inputs_of(model, unseen.dataset, unseen.indices):
        _, height, width, _ = frames.shape
        with torch.inference_mode():
            _, seen = score_with_map(model, model.preprocess(frames, *statistics))
            maps = model.preprocess.restore(seen, height, width).cpu().numpy()
        for frame, values in zip(frames.cpu().numpy(), maps, strict=True):
            named = {"anomaly map": values}
            if small is not None and differences is not None:
                whole = small.restore(torch.from_numpy(differences[index][None]), height, width)
                named["distance from the mean normal"] = whole[0].numpy()
            grey = frame.mean(axis=2, dtype=np.float32)
            yield index, frame, named | {f"grey value{LOWER}": -grey, "grey value": grey}
            index += 1


class _Tally:
    """How often each value stands on pixels without and with a defect.

    Values are counted by the upper 16 bits of a float32, which are in the values' order: 0.4 % lie
    between neighbours. So any number of pixels takes the same memory.
    """

    def __init__(self) -> None:
        self.normal = np.zeros(_BINS)
        self.defect = np.zeros(_BINS)
        self.overlap = np.zeros(_BINS)

    def add(self, values: Map, defect: NDArray[np.bool_]) -> None:
        """Count the pixels of a frame; each connected region of defect has the weight 1."""
        bins = _ordered_bits(values)
        self.normal += np.bincount(bins[~defect], minlength=_BINS)
        if not defect.any():
            return
        regions, _ = label(defect, np.ones((3, 3)))
        weights = 1 / np.bincount(regions.ravel())[regions[defect]]
        self.defect += np.bincount(bins[defect], minlength=_BINS)
        self.overlap += np.bincount(bins[defect], weights, minlength=_BINS)

    def figures(self) -> tuple[float, float]:
        """AUROC and AUPRO."""
        counted = (self.normal, self.defect, self.overlap)
        false, true, overlap = (
            np.concatenate([[0.0], np.cumsum(counts[::-1]) / counts.sum()]) for counts in counted
        )
        within = false < MOST_FALSE
        last = np.interp(MOST_FALSE, false, overlap)
        pro = auc([*false[within], MOST_FALSE], [*overlap[within], last]) / MOST_FALSE
        return float(auc(false, true)), float(pro)


def _ordered_bits(values: Map) -> NDArray[np.uint32]:
    """The upper 16 bits of float32 values as integers in the same order."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32)  # no -0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> np.uint32(16)
