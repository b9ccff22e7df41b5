"""The bottleneck of G and D as products: the same map, that ONNX Runtime runs in fewer steps."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from adae_edge.contract import Network
from adae_edge.export import forms, graph
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import Autoencoder, load_network
from adae_edge.runtime.backends.onnxruntime import session_options


@pytest.mark.parametrize("side", [8, 32])
def test_a_bottleneck_of_products_is_the_same_map(side):
    torch.manual_seed(0)
    network = Autoencoder(3, side, Network(width=4, latent=6)).eval()
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean)
    forms.fold_batch_norm(network)
    x = torch.randn(3, 3, side, side)
    with torch.inference_mode():
        expected, seen = network(x), network.activations(x)
        assert expected.std() > 0.01
        forms.rewrite_bottleneck(network)
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(network.activations(x), seen)


def test_onnx_runtime_joins_each_product_with_its_activation(checkpoints, tmp_path):
    checkpoint = Checkpoint.load(checkpoints("digits"))
    data, _ = graph.build(load_network(checkpoint), checkpoint.contract, [])
    found = modelfile.check(data).operators
    assert (found["Gemm"], found["Conv"], found["ConvTranspose"]) == (6, 6, 6)
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    joined = [
        attribute.s
        for node in onnx.load(tmp_path / "optimised.onnx").graph.node
        if node.op_type == "FusedGemm"
        for attribute in node.attribute
        if attribute.name == "activation"
    ]
    assert sorted(joined) == [b"LeakyRelu"] * 2 + [b"Relu"] * 4
