"""Really trained checkpoints, small enough to make on the spot."""

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
