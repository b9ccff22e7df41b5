"""A TensorRT engine from a model file: on the machine that will run it, or by TensorRT-RTX for GPUs elsewhere.

``build_engine`` is the main road: read, choose, parse, build, write, look at what was built. One
code serves TensorRT 10 and 11 and TensorRT-RTX; where they differ, it says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adae_edge.contract import MAX_BATCH, Contract
from adae_edge.errors import AdaeEdgeError, ModelFileError, UsageError, first_line, printable
from adae_edge.formats import enginefile, modelfile
from adae_edge.formats.enginefile import FLAVOURS, Engine
from adae_edge.formats.files import write_atomically
from adae_edge.gpu import first_gpu
from adae_edge.tensorrt import EXTRAS, load_flavour, log_of

Size = tuple[int, int]  # height and width
# Smallest, most frequent and largest frames where the model takes any: cameras', and scanners'
# slices.
SIZES: dict[str, tuple[Size, Size, Size]] = {
    "image": ((8, 8), (480, 640), (1080, 1920)),
    "modality": ((8, 8), (256, 256), (1024, 1024)),
}
# The largest batch is one whose frames fit into this as float32, because TensorRT reserves memory
# for the largest.
BATCH_BYTES = 256 * 2**20
LARGEST_BATCH = 256
TICK = 0.2  # seconds


@dataclass(frozen=True)
class Wanted:
    """How an engine is to be built.

    Attributes:
        flavour: one of ``FLAVOURS``; None for the one that is installed.
        capabilities: compute capabilities of the GPUs that will run it, as "8.6", which
            TensorRT-RTX alone can build for; empty for this machine's GPU.
        batch: smallest, most frequent and largest number of frames in a run; None by the contract.
        sizes: smallest, most frequent and largest frame, height and width; None by the contract.
        workspace_mb: memory that the engine's layers may use beside their inputs and outputs; None
            for all.
    """

    flavour: str | None = None
    capabilities: tuple[str, ...] = ()
    batch: tuple[int, int, int] | None = None
    sizes: tuple[Size, Size, Size] | None = None
    workspace_mb: int | None = None


@dataclass(frozen=True)
class Built:
    """An engine that was written.

    Attributes:
        engine: what the file holds.
        bytes: size of the file.
        seconds: that building took.
        half: layers that compute in float16, and how many there are; None where no GPU can load the
            engine.
    """

    engine: Engine
    bytes: int
    seconds: float
    half: tuple[int, int] | None


def build_engine(
    model: Path,
    out: Path,
    wanted: Wanted,
    progress: Callable[[float, str], None] = lambda seconds, phase: None,
) -> Built:
    """Build an engine from a model file and write it.

    Args:
        model: the model file.
        out: the engine file, replaced whole or left as it was. TensorRT keeps beside it, in a file
            of the same name that ends in .timing, what it measured of its kernels, so that the next
            build is quicker.
        wanted: how to build.
        progress: called several times a second with the seconds that went by and what TensorRT is
            doing. What it raises stops the build, as Ctrl-C does, at TensorRT's next step.

    Raises:
        UsageError: ``wanted`` does not fit the model, the flavour or this machine.
        MissingExtra: no TensorRT is installed.
        ModelFileError: the model file is refused, or TensorRT cannot take its graph.
        AdaeEdgeError: TensorRT cannot be loaded, finds no GPU, or cannot build the engine.
    """
    file = modelfile.read(model)
    _check_files(model, out, file.contract)
    batch, sizes = ranges(file.contract, wanted)
    flavour = choose_flavour(wanted)
    trt = load_flavour(flavour, "Building an engine")
    name, capabilities = _gpus(trt, flavour, wanted.capabilities)

    begun = time.monotonic()
    log = log_of(trt)
    builder = _builder(trt, log)
    # TensorRT 11 knows no other networks and may drop the flag.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(file.data):
        raise ModelFileError(f"{model}: {_refusal(parser)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # products would keep 10 bits of their factors
    config.profiling_verbosity = (
        trt.ProfilingVerbosity.DETAILED
    )  # else nobody can see the layers' precisions
    if wanted.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, wanted.workspace_mb * 2**20)
    config.add_optimization_profile(_profile(builder, network, batch, sizes))
    timing = out.with_name(out.name + ".timing")
    if flavour == "tensorrt_rtx":  # it measures no kernels before they run
        config.num_compute_capabilities = len(capabilities)
        for at, capability in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, _member(capability)), at)
    else:
        _remember_timing(config, timing)
    plan = _serialised(trt, builder, network, config, progress)
    seconds = time.monotonic() - begun
    if plan is None:
        raise AdaeEdgeError(_failure(flavour, log.errors))

    options = {
        "batch": list(batch),
        "frame_size": [f"{width}x{height}" for height, width in sizes],
        "workspace_mb": wanted.workspace_mb,
    }
    onnx_sha256 = hashlib.sha256(file.data).hexdigest()
    engine = Engine(
        file.contract,
        flavour,
        trt.__version__,
        name,
        ",".join(capabilities),
        onnx_sha256,
        options,
        bytes(plan),
    )
    data = enginefile.to_bytes(engine)
    enginefile.check(data)  # what a reader would refuse is not written
    if flavour == "tensorrt":
        write_atomically(timing, bytes(config.get_timing_cache().serialize()))
    write_atomically(out, data)
    return Built(engine, len(data), seconds, _half_layers(trt, log, engine.plan))


def choose_flavour(wanted: Wanted) -> str:
    """The flavour that was asked for, or the installed one; of both, TensorRT unless other GPUs are named.

    Raises:
        UsageError: there is no such flavour, none is installed, or TensorRT is to build for other
            GPUs.
    """
    if wanted.flavour not in (None, *FLAVOURS):
        raise UsageError(f"--flavour is {' or '.join(FLAVOURS)}, and {wanted.flavour} is neither")
    if wanted.flavour is not None:
        if wanted.flavour == "tensorrt" and wanted.capabilities:
            raise UsageError(
                "TensorRT builds for this machine's GPU alone: --compute-capability is for "
                "--flavour tensorrt_rtx"
            )
        return wanted.flavour
    if wanted.capabilities:
        return "tensorrt_rtx"
    if importlib.util.find_spec("tensorrt"):
        return "tensorrt"
    if importlib.util.find_spec("tensorrt_rtx") or importlib.util.find_spec(
        "tensorrt_rtx_bindings"
    ):
        return "tensorrt_rtx"
    raise UsageError(
        "no TensorRT is installed: on a Jetson it comes with JetPack (apt install "
        "python3-libnvinfer), elsewhere "
        f"pip install 'adae-edge[{EXTRAS['tensorrt']}]' or 'adae-edge[{EXTRAS['tensorrt_rtx']}]'"
    )


def ranges(
    contract: Contract, wanted: Wanted
) -> tuple[tuple[int, int, int], tuple[Size, Size, Size]]:
    """Smallest, most frequent and largest batch and frame: as wanted, or what suits the contract.

    Raises:
        UsageError: they do not rise, or the model takes no such frames.
    """
    form, region = contract.form, contract.region
    assert form is not None
    sizes, batch = wanted.sizes, wanted.batch
    if form.size is not None:
        if sizes not in (None, (form.size,) * 3):
            raise UsageError(
                f"the model was exported for frames of {form.size[1]}x{form.size[0]} alone"
            )
        sizes = (form.size,) * 3
    least = (region.top + region.height, region.left + region.width) if region else (1, 1)
    if sizes is None:
        small, usual, large = (
            (max(h, least[0]), max(w, least[1])) for h, w in SIZES[contract.kind]
        )
        sizes = small, usual, large
    for axis in (0, 1):
        if not least[axis] <= sizes[0][axis] <= sizes[1][axis] <= sizes[2][axis]:
            raise UsageError(
                "--frame-size takes the smallest, the most frequent and the largest frame, as "
                "64x48,640x480,1920x1080"
                + (
                    f", and the model's region takes {least[1]}x{least[0]} at least"
                    if region
                    else ""
                )
            )
    if form.batch is not None:
        if batch not in (None, (form.batch,) * 3):
            raise UsageError(f"the model was exported for {form.batch} frames in every run")
        batch = (form.batch,) * 3
    if batch is None:
        fitting = BATCH_BYTES // (4 * sizes[2][0] * sizes[2][1] * contract.channels)
        batch = 1, 1, min(LARGEST_BATCH, 2 ** int(math.log2(max(1, fitting))))
    if not 1 <= batch[0] <= batch[1] <= batch[2] <= MAX_BATCH:
        raise UsageError(
            "--batch takes the smallest, the most frequent and the largest number of frames in a "
            f"run, 1 to {MAX_BATCH}"
        )
    return batch, sizes


def half_layers(information: str) -> tuple[int, int]:
    """Layers that give float16, and how many there are, by the engine inspector's JSON."""
    layers = [
        layer
        for layer in json.loads(information)["Layers"]
        if isinstance(layer, dict) and layer.get("Outputs")
    ]
    types = [
        " ".join(str(out.get("Format/Datatype", "")) for out in layer["Outputs"]).lower()
        for layer in layers
    ]
    return sum("half" in names or "fp16" in names for names in types), len(types)


def _check_files(model: Path, out: Path, contract: Contract) -> None:
    """What would only come to light after minutes of building."""
    if out.resolve() == model.resolve():
        raise UsageError(f"{out} is the model file itself: give the engine another name")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"cannot write {out}: there is no folder {out.parent}")
    if contract.form.precision == "int8" and contract.form.target != "tensorrt":
        raise UsageError(
            f"{model} has int8 as ONNX Runtime wants it, and TensorRT takes it in another form: "
            "adae-edge export CHECKPOINT --precision int8 --target tensorrt"
        )


def _gpus(
    trt: Any, flavour: str, capabilities: Sequence[str]
) -> tuple[str | None, tuple[str, ...]]:
    """The name of this machine's GPU, if it is built for that, and the compute capabilities to build for."""
    here = None if capabilities else first_gpu()
    if not capabilities and here is None:
        ahead = (
            ", or name the GPU's with --compute-capability, as 8.6"
            if flavour == "tensorrt_rtx"
            else ""
        )
        raise UsageError(
            f"{flavour} finds no GPU here: build the engine on the machine that will run it{ahead}"
        )
    name, capabilities = (
        (None, tuple(dict.fromkeys(capabilities))) if here is None else (here[0], (here[1],))
    )
    if flavour == "tensorrt_rtx":
        members = (name for name in trt.ComputeCapability.__members__ if name[2:].isdecimal())
        known = [f"{member[2:-1]}.{member[-1]}" for member in members]
        for capability in capabilities:
            if capability not in known:
                raise UsageError(
                    f"TensorRT-RTX {trt.__version__} builds for the compute capabilities "
                    f"{', '.join(known)}, and "
                    f"{capability} is none of them" + (f", which {name} has" if name else "")
                )
    return name, tuple(capabilities)


def _member(capability: str) -> str:
    return "SM" + capability.replace(".", "")


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError:  # pybind11 for a null pointer
        raise AdaeEdgeError(
            f"TensorRT cannot be used here: {first_line(' '.join(log.errors[:1]))}"
        ) from None


def _profile(builder: Any, network: Any, batch: Sequence[int], sizes: Sequence[Size]) -> Any:
    profile = builder.create_optimization_profile()
    for at in range(network.num_inputs):
        tensor = network.get_input(at)
        frame = len(tensor.shape) == 4  # mean and std have one value for each
        profile.set_shape(
            tensor.name,
            *(
                (n, *size, tensor.shape[3]) if frame else (n,)
                for n, size in zip(batch, sizes, strict=True)
            ),
        )
    return profile


def _remember_timing(config: Any, path: Path) -> None:
    """Give TensorRT what it measured before; what is of another GPU or version it does not take, and begins anew."""
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _serialised(
    trt: Any, builder: Any, network: Any, config: Any, progress: Callable[[float, str], None]
) -> Any:
    """The plan, or None. TensorRT works in a thread of its own, because no exception may pass through its callbacks."""
    monitor = _monitor(trt)
    config.progress_monitor = monitor
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build_serialized_network, network, config)
        try:
            while True:
                progress(time.monotonic() - begun, monitor.doing())
                if wait([building], TICK).done:
                    return building.result()
        except BaseException:
            monitor.go_on = False
            raise


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.go_on = True
            self.phases: dict[str, list[int]] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.phases[phase] = [0, steps]

        def phase_finish(self, phase: str) -> None:
            self.phases.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.phases:
                self.phases[phase][0] = step + 1
            return self.go_on

        def doing(self) -> str:
            """The innermost phase and how far it is."""
            phases = list(self.phases.items())
            return (
                "starting"
                if not phases
                else "{}, step {} of {}".format(phases[-1][0], *phases[-1][1])
            )

    return Monitor()


def _refusal(parser: Any) -> str:
    """The parser's first error as one sentence."""
    if not parser.num_errors:
        return "TensorRT cannot read this graph, and does not say why"
    error = parser.get_error(0)
    reason = printable(" ".join(error.desc().split())[:200])
    return f"TensorRT cannot take its operator {printable(error.node_operator())} ({error.node_name()!r:.100}): {reason}"


def _failure(flavour: str, errors: Sequence[str]) -> str:
    if any("OutOfMemory" in error or "workspace limit" in error for error in errors):
        return f"{flavour} lacks memory for this engine: give it more --workspace, or a smaller --batch or --frame-size"
    return f"{flavour} cannot build this engine: {first_line(errors[-1] if errors else '')}"


def _half_layers(trt: Any, log: Any, plan: bytes) -> tuple[int, int] | None:
    if first_gpu() is None:
        return None
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:  # it is for another GPU
        return None
    return half_layers(
        engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    )
