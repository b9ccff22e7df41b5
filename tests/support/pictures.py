"""Small pictures, in folders as a user has them."""

from pathlib import Path

import numpy as np
from PIL import Image


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def write_pictures(folder: Path, count: int, shape=(40, 56, 3), anomalous: int = 0) -> Path:
    """A folder of pictures: stripes as normals, and the same with a bright square as anomalous."""
    random = np.random.default_rng(0)
    height, width, channels = (*shape, 1)[:3]
    for index in range(count + anomalous):
        rows = np.sin(np.arange(height) / 3 + random.uniform(0, 6))
        picture = np.tile((rows * 60 + 100)[:, None, None], (1, width, channels))
        picture += random.normal(0, 5, picture.shape)
        kind = "normal" if index < count else "anomalous"
        if kind == "anomalous":
            picture[10:25, 20:40] = 255
        path = folder / kind / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8).squeeze()).save(path)
    return folder
