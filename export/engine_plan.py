"""The plan of an engine: what TensorRT makes of a model file, and how it is told what to make.

One code serves TensorRT 10 and 11 and TensorRT-RTX; where they differ, it says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from adae_edge.errors import (
    AdaeEdgeError,
    DeviceError,
    ModelFileError,
    UsageError,
    first_line,
    printable,
)
from adae_edge.export.engine_request import Ranges
from adae_edge.formats.files import write_atomically
from adae_edge.formats.modelfile import ModelFile
from adae_edge.gpu import first_gpu

Progress = Callable[[float, str], None]
TICK = 0.2  # seconds


class Gpus(NamedTuple):
    """The GPUs that an engine is built for.

    Attributes:
        name: of this machine's GPU; None if it is built for others.
        capabilities: their compute capabilities, as "8.6".
    """

    name: str | None
    capabilities: tuple[str, ...]


class Job(NamedTuple):
    """What is built: everything that was read and chosen.

    Attributes:
        model: path of the model file, for messages.
        file: what was read of it.
        flavour: one of ``FLAVOURS``.
        gpus: that will run it.
        ranges: of batch and frames.
        workspace_mb: memory for its layers; None for all.
        out: the engine file, beside which TensorRT remembers its measurements.
    """

    model: Path
    file: ModelFile
    flavour: str
    gpus: Gpus
    ranges: Ranges
    workspace_mb: int | None
    out: Path

    @property
    def timing(self) -> Path:
        """The file in which TensorRT keeps what it measured of its kernels."""
        return self.out.with_name(self.out.name + ".timing")


def gpus_for(trt: Any, flavour: str, capabilities: Sequence[str]) -> Gpus:
    """The GPUs with these compute capabilities, or this machine's if there are none."""
    name = None
    if not capabilities:
        here = first_gpu()
        if here is None:
            ahead = ""
            if flavour == "tensorrt_rtx":
                ahead = ", or name the GPU's with --compute-capability, as 8.6"
            raise UsageError(
                f"{flavour} finds no GPU here: build the engine on the machine that will run it"
                f"{ahead}"
            )
        name, capability = here
        capabilities = (capability,)
    if flavour == "tensorrt_rtx":
        _check_capabilities(trt, name, capabilities)
    return Gpus(name, tuple(dict.fromkeys(capabilities)))


def _check_capabilities(trt: Any, name: str | None, capabilities: Sequence[str]) -> None:
    """Refuse GPUs that TensorRT-RTX does not know; ``name`` is this machine's."""
    members = [name[2:] for name in trt.ComputeCapability.__members__ if name[2:].isdecimal()]
    known = [f"{member[:-1]}.{member[-1]}" for member in members]
    for capability in capabilities:
        if capability not in known:
            owner = f", which {name} has" if name else ""
            raise UsageError(
                f"TensorRT-RTX {trt.__version__} builds for the compute capabilities "
                f"{', '.join(known)}, and {capability} is none of them{owner}"
            )


def built_plan(trt: Any, log: Any, job: Job, progress: Progress) -> bytes:
    """The plan that TensorRT makes of the model file."""
    builder = _builder(trt, log)
    # TensorRT 11 knows no other networks and may drop the flag.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)  # holds the weights until the plan is there
    if not parser.parse(job.file.data):
        raise ModelFileError(f"{job.model}: {_refusal(parser)}")
    config = _config(trt, builder, network, job)
    plan = _serialised(trt, builder, network, config, progress)
    if plan is None:
        raise AdaeEdgeError(_failure(job.flavour, log.errors))
    if job.flavour == "tensorrt":
        write_atomically(job.timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _builder(trt: Any, log: Any) -> Any:
    """TensorRT's builder; raises DeviceError where TensorRT cannot work."""
    try:
        return trt.Builder(log)
    except TypeError as error:  # pybind11 for a null pointer
        reason = first_line(" ".join(log.errors[:1]))
        raise DeviceError(f"TensorRT cannot be used here: {reason}") from error


def _config(trt: Any, builder: Any, network: Any, job: Job) -> Any:
    """How TensorRT builds: products in float32, ranges, GPUs, and what it measured before."""
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # products would keep 10 bits of their factors
    # Else nobody can see the layers' precisions.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if job.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_mb * 2**20)
    config.add_optimization_profile(_profile(builder, network, job.ranges))
    if job.flavour == "tensorrt":
        _remember_timing(config, job.timing)
        return config
    # TensorRT-RTX measures no kernels before they run.
    config.num_compute_capabilities = len(job.gpus.capabilities)
    for index, capability in enumerate(job.gpus.capabilities):
        member = "SM" + capability.replace(".", "")
        config.set_compute_capability(getattr(trt.ComputeCapability, member), index)
    return config


def _profile(builder: Any, network: Any, ranges: Ranges) -> Any:
    """The smallest, the most frequent and the largest shape of every input."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shapes: list[tuple[int, ...]] = [(count,) for count in ranges.batch]  # mean and std
        if len(tensor.shape) == 4:
            frames = zip(ranges.batch, ranges.sizes, strict=True)
            shapes = [(count, *size, tensor.shape[3]) for count, size in frames]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _remember_timing(config: Any, path: Path) -> None:
    """Give TensorRT what it measured before.

    It does not take what is of another GPU or version, and begins anew.
    """
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _serialised(trt: Any, builder: Any, network: Any, config: Any, progress: Progress) -> Any:
    """The plan, or None if TensorRT fails.

    TensorRT works in a thread of its own, because no exception may pass through its callbacks.
    """
    monitor = _monitor(trt)
    config.progress_monitor = monitor
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build_serialized_network, network, config)
        try:
            while True:
                progress(time.monotonic() - started, monitor.doing())
                if wait([building], TICK).done:
                    return building.result()
        except BaseException:
            monitor.go_on = False
            raise


def _monitor(trt: Any) -> Any:
    """TensorRT's progress monitor, which says what is done and can stop the build."""

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
            if not phases:
                return "starting"
            phase, (done, steps) = phases[-1]
            return f"{phase}, step {done} of {steps}"

    return Monitor()


def _refusal(parser: Any) -> str:
    """The parser's first error as one sentence."""
    if not parser.num_errors:
        return "TensorRT cannot read this graph, and does not say why"
    error = parser.get_error(0)
    operator = printable(error.node_operator())
    reason = printable(" ".join(error.desc().split())[:200])
    return f"TensorRT cannot take its operator {operator} ({error.node_name()!r:.100}): {reason}"


def _failure(flavour: str, errors: Sequence[str]) -> str:
    """Why no engine was built, as one sentence."""
    if any("OutOfMemory" in error or "workspace limit" in error for error in errors):
        return (
            f"{flavour} lacks memory for this engine: give it more --workspace, or a smaller "
            "--batch or --frame-size"
        )
    return f"{flavour} cannot build this engine: {first_line(errors[-1] if errors else '')}"


def half_layers_of(trt: Any, log: Any, plan: bytes) -> tuple[int, int] | None:
    """Count a plan's layers that give float16, and all; None where no GPU here loads it."""
    if first_gpu() is None:
        return None
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:  # it is for another GPU
        return None
    return half_layers(
        engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    )


def half_layers(information: str) -> tuple[int, int]:
    """Count the layers that give float16, and all, in the engine inspector's JSON."""
    half = every = 0
    for layer in json.loads(information)["Layers"]:
        if not isinstance(layer, dict) or not layer.get("Outputs"):
            continue
        types = [str(output.get("Format/Datatype", "")).lower() for output in layer["Outputs"]]
        every += 1
        half += any("half" in kind or "fp16" in kind for kind in types)
    return half, every
