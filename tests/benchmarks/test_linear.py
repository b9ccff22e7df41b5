"""The linear autoencoder against scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from adae_edge.benchmarks.against.linear import main
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.loading import load_frames, unpack


def test_figures_are_those_of_a_principal_component_analysis(tmp_path):
    main("digits", tmp_path / "linear.json")
    result = json.loads((tmp_path / "linear.json").read_text())
    dataset, preprocess = load_dataset("digits", 3), Preprocess(32)
    parts = split(dataset.anomalous, seed=0)
    train = unpack(load_frames(dataset, parts, preprocess)[0], preprocess).flatten(1).numpy()
    everything = type(parts)(np.arange(len(dataset.anomalous)), parts.calibration[:0], parts.test)
    test = (
        unpack(load_frames(dataset, everything, preprocess)[0], preprocess)
        .flatten(1)
        .numpy()[parts.test]
    )
    pca = PCA(10, svd_solver="full").fit(train)
    errors = np.square(test - pca.inverse_transform(pca.transform(test))).sum(axis=1)
    assert result["auroc"]["10"][3] == pytest.approx(
        roc_auc_score(dataset.anomalous[parts.test], errors), abs=2e-4
    )
    assert result["mean"]["10"] == pytest.approx(np.mean(result["auroc"]["10"]), abs=1e-4)
