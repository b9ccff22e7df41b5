"""The files of adae-edge's network that contenders load, with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from adae_edge.benchmarks.against.contenders import Unresized, exported, graph_of, network
from adae_edge.benchmarks.rivals.rival import project_digest
from adae_edge.contract import Form
from adae_edge.formats.files import write_atomically
from adae_edge.train.settings import NETWORKS

NAME, CHANNELS = "a", 3


def write(folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Write model files, parts of the network as graphs of their own, and its weights.

    Nothing is written where they are there already, from the same source.

    Args:
        folder: where to.
        sizes: width and height of frames that a model file of fixed size is written for.
    """
    done, wanted = folder / "written.json", {"project": project_digest(), "sizes": list(sizes)}
    if done.is_file() and done.read_text() == json.dumps(wanted):
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = network(NAME, CHANNELS)
    for width, height in sizes:
        file = exported(NAME, CHANNELS, Form(size=(height, width)))
        write_atomically(folder / f"fixed-{width}x{height}.onnx", file.data)
    write_atomically(folder / "any.onnx", exported(NAME, CHANNELS, Form()).data)
    parts: dict[str, nn.Module] = {
        "generator": model.generator,
        "discriminator": model.discriminator,
        "bare": Unresized(model),
    }
    for name, part in parts.items():
        write_atomically(folder / f"{name}.onnx", graph_of(part, CHANNELS))
    save_file(model.state_dict(), folder / "weights.safetensors")
    text = json.dumps(asdict(NETWORKS[NAME]))
    write_atomically(folder / "network.json", text.encode())
    write_atomically(done, json.dumps(wanted).encode())
