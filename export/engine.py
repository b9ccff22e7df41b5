"""A TensorRT engine from a model file: on the machine that will run it, or for GPUs elsewhere.

``build_engine`` is the main road: read, choose, build, compare, write.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adae_edge.contract import Contract
from adae_edge.errors import MissingExtra, UsageError, command
from adae_edge.export.engine_plan import Job, Progress, built_plan, gpus_for, half_layers_of
from adae_edge.export.engine_request import EngineRequest, choose_flavour, ranges
from adae_edge.formats import enginefile, modelfile
from adae_edge.formats.enginefile import Engine
from adae_edge.formats.files import check_writable, real_path, write_atomically
from adae_edge.formats.modelfile import ModelFile
from adae_edge.tensorrt import load_flavour, log_of

if TYPE_CHECKING:
    from adae_edge.export.engine_gate import EngineParity


@dataclass(frozen=True)
class Built:
    """An engine that was written.

    Attributes:
        path: of the engine file.
        engine: what the file holds.
        bytes: size of the file.
        seconds: that building took.
        half: layers that compute in float16, and how many there are; None where no GPU can load the
            engine.
        parity: how close its scores are to ONNX Runtime's; None where they could not be compared.
    """

    path: Path
    engine: Engine
    bytes: int
    seconds: float
    half: tuple[int, int] | None
    parity: EngineParity | None

    def lines(self) -> str:
        """Say for the terminal what was built, and the command to go on with."""
        engine = self.engine
        capabilities = engine.compute_capability.replace(",", " or ")
        smallest, usual, largest = engine.options["frame_size"]
        fewest, usually, most = engine.options["batch"]
        lines = [
            f"{engine.flavour} {engine.version} built it in {self.seconds:.1f} s for "
            f"{engine.gpu or 'any GPU'} of compute capability {capabilities}",
            f"it takes frames of {smallest} to {largest}, best {usual}, {fewest} to {most} in a "
            f"run, best {usually}",
        ]
        if self.half is None:
            lines.append(
                "the layers' precisions could not be inspected, for no GPU here loads the engine"
            )
        else:
            lines.append("{} of {} layers give float16".format(*self.half))
            lines.append(
                "its scores could not be compared, for ONNX Runtime is not installed"
                if self.parity is None
                else f"parity: {self.parity.scores} scores of extreme frames, at most "
                f"{self.parity.error:.1e} from ONNX Runtime's"
            )
        lines.append(
            f"wrote {self.path}: {self.bytes / 1e6:.2f} MB; next: "
            f"{command('score', self.path, 'SOURCE')}"
        )
        return "\n".join(lines)


def build_engine(
    model: Path,
    out: Path | None,
    request: EngineRequest,
    progress: Progress = lambda seconds, phase: None,
) -> Built:
    """Build an engine from a model file, and write it once its scores are ONNX Runtime's.

    They are compared where a GPU here can run the engine and ONNX Runtime is installed.

    Args:
        model: the model file.
        out: the engine file, replaced whole or left as it was; None for the model file's name with
            .engine. TensorRT keeps beside it, in a file of the same name that ends in .timing, what
            it measured of its kernels, so that the next build is quicker.
        request: how to build.
        progress: called several times a second with the seconds that went by and what TensorRT is
            doing. What it raises stops the build, as Ctrl-C does, at TensorRT's next step.

    Raises:
        UsageError: the request does not fit the model, the flavour or this machine.
        MissingExtra: no TensorRT is installed.
        ModelFileError: the model file is refused, or TensorRT cannot take its graph.
        DeviceError: TensorRT finds no GPU that it can use, or the GPU failed.
        ParityError: the engine does not give ONNX Runtime's scores; nothing is written then.
        AdaeEdgeError: TensorRT cannot be loaded, or cannot build the engine.
    """
    # read, and choose what was left open
    out = out or model.with_name(model.name.removesuffix(".onnx") + ".engine")
    file = modelfile.read(model)
    _check_files(model, out, file.contract)
    wanted = ranges(file.contract, request)
    flavour = choose_flavour(request)
    trt = load_flavour(flavour, "Building an engine")
    gpus = gpus_for(trt, flavour, request.capabilities)

    # build
    log = log_of(trt)
    job = Job(model, file, flavour, gpus, wanted, request.workspace_mb, out)
    started = time.monotonic()
    plan = built_plan(trt, log, job, progress)
    seconds = time.monotonic() - started
    engine = Engine(
        contract=file.contract,
        flavour=flavour,
        version=trt.__version__,
        gpu=gpus.name,
        compute_capability=",".join(gpus.capabilities),
        onnx_sha256=hashlib.sha256(file.data).hexdigest(),
        options={
            "batch": list(wanted.batch),
            "frame_size": [f"{width}x{height}" for height, width in wanted.sizes],
            "workspace_mb": request.workspace_mb,
            "build_s": round(seconds, 1),
        },
        plan=plan,
    )

    # check and compare, and only then write
    data = enginefile.to_bytes(engine)
    enginefile.check(data)
    half = half_layers_of(trt, log, plan)
    parity = None if half is None else _compared(engine, file)
    write_atomically(out, data)
    return Built(out, engine, len(data), seconds, half, parity)


def _check_files(model: Path, out: Path, contract: Contract) -> None:
    """Refuse what would only come to light after minutes of building."""
    if real_path(out) == real_path(model):
        raise UsageError(f"{out} is the model file itself: give the engine another name")
    check_writable(out)
    if contract.form.precision == "int8" and contract.form.target != "tensorrt":
        raise UsageError(
            f"{model} has int8 as ONNX Runtime wants it, and TensorRT takes it in another form: "
            "adae-edge export CHECKPOINT --precision int8 --target tensorrt"
        )


def _compared(engine: Engine, file: ModelFile) -> EngineParity | None:
    """Compare the engine with ONNX Runtime; None where that is not installed."""
    from adae_edge.export.engine_gate import compare  # a device may build without numpy

    try:
        return compare(engine, file)
    except MissingExtra:
        return None
