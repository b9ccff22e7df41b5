"""How well the pixels of maps are told apart by masks, and what simple maps reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from adae_edge.benchmarks.inspection import Parts
from adae_edge.contract import Network
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Indices
from adae_edge.train.yardsticks import SIDE, small_pictures

COMPONENTS = 200

Map = NDArray[np.float32]
Maps = dict[int, Map]


def pixel_auroc(parts: Parts, maps: Mapping[int, Map]) -> float:
    """AUROC of all pixels of frames with a mask, pooled.

    Args:
        parts: with the masks.
        maps: by index, float32 [h, w], spread over the mask's size where they have another.
    """
    values, truth = [], []
    for index, pixels in maps.items():
        mask = parts.mask(index)
        height, width = mask.shape
        image = Image.fromarray(pixels.astype(np.float32))
        values.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).ravel())
        truth.append(mask.ravel())
    return float(roc_auc_score(np.concatenate(truth), np.concatenate(values)))


def map_yardsticks(parts: Parts, known: Indices, tested: list[int]) -> dict[str, Maps]:
    """Simple maps of frames by name, in 64 x 64 grey pixels.

    Args:
        parts: with the frames.
        known: indices of normals.
        tested: indices of the frames.
    """
    model = ADAE(Preprocess(SIDE), parts.dataset.channels, Network(None, 1))
    normal, new = (
        torch.from_numpy(small_pictures(model, parts.dataset, indices, SIDE) / np.float32(255))
        for indices in (known, np.array(tested))
    )
    centre, basis = principal_components(normal.flatten(1), COMPONENTS)
    deviations = new.flatten(1) - centre
    errors = (deviations - deviations @ basis @ basis.T).square().reshape(new.shape)
    simple = {
        "brightness": new,
        "darkness": -new,
        "distance from the mean normal": (new - normal.mean(dim=0)).abs(),
        f"error of {COMPONENTS} principal components of 64 x 64 pixels": errors,
    }
    return {name: dict(zip(tested, values.numpy(), strict=True)) for name, values in simple.items()}
