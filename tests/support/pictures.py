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


def write_scratched(folder: Path, count: int, anomalous: int, channels: int = 1) -> Path:
    """A folder of woven parts under changing light, and the same with a faint small scratch.

    What normals differ by, light and grain, is much more than the scratch.
    """
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:48, :64]
    weave = 25 * np.sin(rows * 0.8) * np.sin(columns * 0.8)
    for index in range(count + anomalous):
        light = random.uniform(0.7, 1.3) * (1 + random.uniform(-0.2, 0.2) * (columns / 64 - 0.5))
        grain = random.uniform(2, 14) * random.normal(size=weave.shape)
        picture = (110 + weave) * light + grain
        kind = "normal" if index < count else "anomalous"
        if kind == "anomalous":
            top, left = random.integers(8, 34), random.integers(8, 50)
            picture[top : top + 7, left : left + 3] -= 55
        shades = [picture * (1 + 0.1 * channel) for channel in range(channels)]
        pixels = np.stack(shades, axis=2).clip(0, 255).astype(np.uint8).squeeze()
        save(folder / kind / f"{index:03}.png", pixels)
    return folder
