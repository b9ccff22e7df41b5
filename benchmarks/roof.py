"""The networks against the machine's limit: its best products and copies of the same run.

python -m adae_edge.benchmarks.roof [--rounds 15] [--json FILE]

The roof of a call is the longer of two times: its operations at the rate of the best matrix
product, and the bytes of its frames, weights and scores at the rate of the best copy. Both are the
better of numpy's and ONNX Runtime's, and are measured in turns with the networks. What lies between
two layers is not counted, because a cache may hold it. Networks (a) and (b) of Appendix A have
random weights, which do not change the time, and take colour frames of 32x32.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from adae_edge.benchmarks.against.contenders import SIZE, exported, fused, network
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.paired import Call, Rounds, in_turns
from adae_edge.benchmarks.record import record
from adae_edge.contract import Form
from adae_edge.export.graph import OPSET
from adae_edge.formats.files import write_json
from adae_edge.machine import available_threads
from adae_edge.runtime.backends.onnxruntime import session_options

CHANNELS = 3
BATCHES = (1, 64)
# The most that a network's time may be of its roof, in batches of 64.
GOALS = {"a": 2.5, "b": 1.6}
_PRODUCT_SIDE = 512
_COPIED = 2**26  # bytes, more than most caches hold
_PROFILED_RUNS = 50
_IR_VERSION = 10


@dataclass(frozen=True)
class Work:
    """What a call of a network cannot do without.

    Attributes:
        operations: multiplications and additions of its convolutions.
        bytes: of its frames, weights and scores.
    """

    operations: int
    bytes: int

    @staticmethod
    def of(name: str, batch: int) -> Work:
        """The work of network ``name`` for a batch of frames."""
        model, frames = network(name, CHANNELS), random_frames(batch, SIZE, CHANNELS)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(torch.from_numpy(frames))
        weights = sum(each.nbytes for each in model.parameters())
        return Work(counter.get_total_flops(), frames.nbytes + weights + 4 * batch)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each comparison.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print how many times as long as its roof each network takes, on one thread and on all."""
    measured = [measure(threads, rounds) for threads in sorted({1, available_threads()})]
    for each in measured:
        typer.echo(as_text(each))
    if json_file is not None:
        write_json(json_file, record(rounds=rounds, measurements=measured))


def measure(threads: int, rounds: int) -> dict[str, Any]:
    """Time products, copies and networks in turns on so many threads; JSON types."""
    networks = {(name, batch): name for name in GOALS for batch in BATCHES}
    frames = {batch: random_frames(batch, SIZE, CHANNELS) for batch in BATCHES}
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(threads, "blas"):
        calls = (
            products(threads)
            | copies(threads, pool)
            | {
                f"{name}, {batch}": fused(name, Form(size=SIZE), frames[batch], threads)
                for name, batch in networks
            }
        )
        times = in_turns(calls, rounds)
    product = {name: times[name] for name in times if name.startswith("product")}
    copy = {name: times[name] for name in times if name.startswith("copy")}
    per_ms = {
        "operations": 2 * _PRODUCT_SIDE**3 / np.minimum(*product.values()),
        "bytes": 2 * _COPIED / np.minimum(*copy.values()),
    }
    return {
        "threads": threads,
        "gflop_per_s": {name: _rate(2 * _PRODUCT_SIDE**3, ms) for name, ms in product.items()},
        "copy_gb_per_s": {name: _rate(2 * _COPIED, ms) for name, ms in copy.items()},
        "networks": [
            _row(name, batch, times[f"{name}, {batch}"], per_ms) | _profile(name, batch, threads)
            for name, batch in networks
        ],
    }


def products(threads: int) -> dict[str, Call]:
    """The product of two matrices by numpy, whose threads are limited, and by ONNX Runtime."""
    random = np.random.default_rng(0)
    shape = (_PRODUCT_SIDE, _PRODUCT_SIDE)
    a, b = (random.random(shape, np.float32) for _ in range(2))
    out = np.empty(shape, np.float32)
    run = _operator("MatMul", threads, a, b)
    return {"product by numpy": lambda: np.matmul(a, b, out=out), "product by ONNX Runtime": run}


def copies(threads: int, pool: ThreadPoolExecutor) -> dict[str, Call]:
    """A copy by numpy, of a part in each thread, and the negative of it by ONNX Runtime."""
    source = np.random.default_rng(0).random(_COPIED // 4, np.float32)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

    def copy() -> NDArray[np.float32]:
        list(pool.map(lambda part: np.copyto(*part), parts))
        return target

    return {"copy by numpy": copy, "copy by ONNX Runtime": _operator("Neg", threads, source)}


def _operator(name: str, threads: int, *inputs: NDArray[np.float32]) -> Call:
    """A graph of one operator in ONNX Runtime, that writes to the same memory again and again."""
    kind, shape = onnx.TensorProto.FLOAT, inputs[0].shape
    names = [f"x{number}" for number in range(len(inputs))]
    values = [onnx.helper.make_tensor_value_info(each, kind, shape) for each in names]
    out = onnx.helper.make_tensor_value_info("y", kind, shape)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, names, ["y"])], name.lower(), values, [out]
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    target, binding = np.empty(shape, np.float32), session.io_binding()
    for each, array in zip(names, inputs, strict=True):
        binding.bind_cpu_input(each, array)
    binding.bind_output("y", "cpu", 0, np.float32, shape, target.ctypes.data)

    def run() -> NDArray[np.float32]:
        session.run_with_iobinding(binding)
        return target

    return run


def _rate(amount: int, ms: Rounds) -> float:
    """A million a millisecond, which is a thousand million a second."""
    return round(amount / float(np.median(ms)) / 1e6, 2)


def _row(name: str, batch: int, ms: Rounds, per_ms: dict[str, Rounds]) -> dict[str, Any]:
    """A network's time, its roof, and the ratio of both within the rounds; JSON types."""
    work = Work.of(name, batch)
    computing, moving = work.operations / per_ms["operations"], work.bytes / per_ms["bytes"]
    roof = np.maximum(computing, moving)
    low, ratio, high = (float(value) for value in np.percentile(ms / roof, (25, 50, 75)))
    goal = GOALS[name] if batch == max(BATCHES) else None
    return {
        "network": name,
        "batch": batch,
        "mflop_per_frame": round(work.operations / batch / 1e6, 2),
        "bytes_per_frame": work.bytes // batch,
        "ms": round(float(np.median(ms)), 4),
        "min_ms": round(float(ms.min()), 4),
        "gflop_per_s": _rate(work.operations, ms),
        "roof_ms": round(float(np.median(roof)), 4),
        "bound_by": "products" if np.median(computing) >= np.median(moving) else "copies",
        "over_roof": round(ratio, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "goal": goal,
        "met": None if goal is None else ratio <= goal,
    }


def _profile(name: str, batch: int, threads: int) -> dict[str, Any]:
    """Where the time of a run goes by ONNX Runtime's own profile: the share of each operator."""
    frames = random_frames(batch, SIZE, CHANNELS)
    options = session_options(threads)
    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            exported(name, CHANNELS, Form(size=SIZE)).data,
            options,
            providers=["CPUExecutionProvider"],
        )
        for _ in range(_PROFILED_RUNS):
            session.run(["score"], {"frames": frames})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    whole = sum(event["dur"] for event in events if event["name"] == "model_run")
    spent["between operators"] = max(0, whole - spent.total())
    shares = {kind: round(us / whole, 3) for kind, us in spent.most_common()}
    return {"profile": {kind: share for kind, share in shares.items() if share >= 0.01}}


def as_text(measured: dict[str, Any]) -> str:
    """What was measured on so many threads, as lines for the terminal."""
    lines = [f"threads: {measured['threads']}"]
    for name, rate in measured["gflop_per_s"].items():
        lines.append(f"  {rate:8.1f} GFLOP/s  {name}")
    for name, rate in measured["copy_gb_per_s"].items():
        lines.append(f"  {rate:8.1f} GB/s     {name}")
    for row in measured["networks"]:
        verdict = ""
        if row["goal"] is not None:
            verdict = f" (at most {row['goal']:g}: {'met' if row['met'] else 'NOT met'})"
        most = ", ".join(f"{kind} {share:.0%}" for kind, share in list(row["profile"].items())[:4])
        lines += [
            f"  network {row['network']}, batch {row['batch']}: {row['ms']:.3f} ms, "
            f"{row['gflop_per_s']:.0f} GFLOP/s, {row['over_roof']:.2f} times its roof{verdict}",
            f"    {most}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
