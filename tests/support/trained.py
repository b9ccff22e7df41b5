"""Really trained checkpoints, small enough to make on the spot."""

from adae_edge.contract import Region
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.trainer import train
from tests.support.pictures import write_pictures
from tests.support.volumes import write_patients

# How the checkpoints are trained that several test files take.
KINDS = {
    "digits": {"epochs": 3},
    "density": {"epochs": 3, "score": "density"},
    "colour": {"epochs": 1, "side": 16},
    "region": {"epochs": 1, "side": 16, "region": Region(7, 5, 40, 31)},
    "slices": {"epochs": 1, "side": 16},
}


def settings_for(dataset, data, anomalous=None, **changed):
    """The settings of a short training of the small network, or what was changed of them."""
    held_out = None if anomalous is None else str(anomalous)
    options = {"data": data, "anomalous": held_out, "epochs": 2, "network": "a"}
    return plan(dataset, TrainRequest(**(options | changed)))


def train_on(data, out, anomalous=None, **changed):
    """Train as the command line does; returns the contract."""
    dataset = load_dataset(data, anomalous)
    return train(dataset, settings_for(dataset, data, anomalous, **changed), out)


def train_kind(kind, folder):
    """Train one of ``KINDS`` into a folder, on digits, brain volumes or pictures of 56 x 40."""
    if kind in ("digits", "density"):
        data, anomalous = "digits", 0
    elif kind == "slices":
        data, anomalous = f"brats:{write_patients(folder / 'data')}", None
    else:
        data, anomalous = str(write_pictures(folder / "data", 60, anomalous=20)), None
    train_on(data, folder / "c.safetensors", anomalous, **KINDS[kind])
