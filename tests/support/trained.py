"""Really trained checkpoints, small enough to make on the spot."""

from adae_edge.train.data.opening import load_dataset
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.trainer import train


def settings_for(dataset, data, anomalous=None, **changed):
    """The settings of a short training of the small network, or what was changed of them."""
    held_out = None if anomalous is None else str(anomalous)
    options = {"data": data, "anomalous": held_out, "epochs": 2, "network": "a"}
    return plan(dataset, TrainRequest(**(options | changed)))


def train_on(data, out, anomalous=None, **changed):
    """Train as the command line does; returns the contract."""
    dataset = load_dataset(data, anomalous)
    return train(dataset, settings_for(dataset, data, anomalous, **changed), out)
