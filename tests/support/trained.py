"""Really trained checkpoints, small enough to make on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image

from adae_edge.train.data.opening import load_dataset
from adae_edge.train.settings import plan
from adae_edge.train.trainer import train


def settings_for(dataset, data, anomalous=None, **changed):
    options = {
        "seed": 0, "recipe": "default", "epochs": 2, "network": "a", "side": None,
        "resize": "stretch", "pad_value": 0.0, "region": None, "fpr": None, "references": True,
    }  # fmt: skip
    return plan(dataset, data, anomalous, **(options | changed))


def train_on(data, out, anomalous=None, **changed):
    """Train as the command line does; returns the contract."""
    dataset = load_dataset(data, anomalous)
    return train(dataset, settings_for(dataset, data, anomalous, **changed), out)


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
