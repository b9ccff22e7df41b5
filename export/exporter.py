"""From a checkpoint to a model file: the main road of the export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adae_edge.batch import Batch
from adae_edge.contract import MAPS, PRECISIONS, TARGETS, Contract, Form
from adae_edge.errors import CheckpointError, UsageError, command
from adae_edge.export.cost import Cost, measure_cost
from adae_edge.export.examples import check_examples, write_examples
from adae_edge.export.gate import Parity, check_parity
from adae_edge.export.graph import OPSET, build
from adae_edge.export.references import ReferenceFrames, real_frames
from adae_edge.export.triton import check_repository, write_repository
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import check_writable, real_path, write_atomically
from adae_edge.model import load_network

PLAIN = Form()


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: of the model file.
        contract: of the model file.
        bytes: size of the model file.
        opset: version of the ONNX operators.
        parity: what the gate measured.
        cost: what the precision costs and gains; None for fp32.
        example: files that score without adae-edge, or none.
        triton: the model's folder in Triton's repository, or None.
    """

    path: Path
    contract: Contract
    bytes: int
    opset: int
    parity: Parity
    cost: Cost | None
    example: tuple[Path, ...] = ()
    triton: Path | None = None

    def lines(self) -> str:
        """Say for the terminal what was written, and the command to go on with."""
        precision = self.contract.form.precision
        following = command("score", self.path, "SOURCE")
        if precision == "int8":
            following = command("calibrate", self.path, "NORMALS")
        lines = [self.parity.lines()]
        if self.cost is not None:
            lines.append(self.cost.lines(precision))
        lines.append(
            f"wrote {self.path}: {self.bytes / 1e6:.2f} MB, opset {self.opset}; next: {following}"
        )
        if self.example:
            lines.append(f"wrote {' and '.join(map(str, self.example))}")
        if self.triton is not None:
            lines.append(f"wrote {self.triton}")
        return "\n".join(lines)


def export(
    checkpoint: Path,
    out: Path | None = None,
    frames: Path | None = None,
    form: Form = PLAIN,
    *,
    example: Path | None = None,
    triton: Path | None = None,
) -> Exported:
    """Fuse G and D of a checkpoint into one ONNX file, once its scores are shown to be PyTorch's.

    Args:
        checkpoint: a finished checkpoint.
        out: the model file, replaced whole or left as it was; None for the checkpoint's name with
            .onnx.
        frames: folder of normal frames for the gate and for int8, as for scoring, in place of the
            checkpoint's reference frames; with subfolders ``normal`` and ``anomalous`` the cost in
            AUROC is told, too.
        form: of the network; which backends are verified is filled in.
        example: folder that gets a script and a program that score without adae-edge.
        triton: model repository of Triton Inference Server that gets the model, too.

    Raises:
        UsageError: there is no such form or checkpoint, the frames or the region do not fit the
            form, or ``example`` or ``triton`` has files of somebody else.
        CheckpointError: the checkpoint is unfinished or damaged.
        FrameError, SourceError: of ``frames`` one cannot be decoded, or there are none.
        ParityError: the graph does not give PyTorch's scores; nothing is written then.
        WriteError: a file cannot be written.
    """
    # refuse at once what would be refused after minutes
    out = out or checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + ".onnx")
    _check_names(form)
    check_writable(out)
    if example is not None:
        check_examples(example)
        check_writable(example, folder=True)
    if triton is not None:
        check_repository(out.stem, triton)
        check_writable(triton, folder=True)

    # load the network and the frames
    loaded = Checkpoint.load(checkpoint)
    if real_path(out) == real_path(checkpoint):
        raise UsageError(f"{out} is the checkpoint itself: give the model file another name")
    try:
        model = load_network(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    assert loaded.contract is not None
    contract = replace(loaded.contract, form=form)
    _check_form(contract)
    if example is not None and contract.bits is not None:
        raise UsageError("an example reads no camera's bits: leave out --example")
    if example is not None and contract.object in ("head", "mask"):
        raise UsageError(
            "an example looks at skull-stripped brains, and this model at "
            f"{'whole heads' if contract.object == 'head' else 'brains inside of masks'}: leave "
            "out --example; the model file says enough for a program of yours (docs/model-file.md)"
        )
    real = _frames_for(loaded, contract, checkpoint, frames)

    # make the graph, compare it, and say what it costs
    data, formed = build(model, contract, real.normals)
    parity = check_parity(model, formed, modelfile.check(data), real.normals)
    cost = None
    if form.precision != "fp32":
        plain = replace(contract, form=replace(form, precision="fp32"))
        exact, _ = build(model, plain, real.normals)
        cost = measure_cost(modelfile.check(exact), modelfile.check(data), real.all, real.anomalous)

    # write the model file, the example and the repository
    form = replace(form, verified=parity.verified, unverified=parity.unverified)
    contract = replace(contract, form=form)
    data = modelfile.with_contract(data, contract)
    write_atomically(out, data)
    exported = Exported(out, contract, len(data), OPSET, parity, cost)
    if example is not None:
        exported = replace(exported, example=tuple(write_examples(contract, example)))
    if triton is not None:
        folder = write_repository(out.stem, contract, data, triton)
        exported = replace(exported, triton=folder)
    return exported


def _check_names(form: Form) -> None:
    """Refuse a form with a precision, a target or a map that there is none of."""
    for value, option, known in (
        (form.precision, "--precision", PRECISIONS),
        (form.target, "--target", TARGETS),
    ):
        if value not in known:
            raise UsageError(f"{option} is one of {', '.join(known)}, and {value} is none of them")
    if form.anomaly_map not in (None, *MAPS):
        raise UsageError(f"--anomaly-map is {' or '.join(MAPS)}, and {form.anomaly_map} is neither")


def _check_form(contract: Contract) -> None:
    """Refuse a form that this network cannot have, or that could never score a frame."""
    form = contract.form
    if form.size is not None and contract.region is not None:
        contract.region.check(*form.size, UsageError)
    if form.precision == "fp32":
        return
    lower = f"{form.precision} is for the convolutions of G and D, and "
    if contract.score == "local":
        raise UsageError(f"{lower}the score local takes none: export fp32")
    if contract.network.linear:
        raise UsageError(f"{lower}a linear network has none: export fp32")


def _frames_for(
    loaded: Checkpoint, contract: Contract, checkpoint: Path, folder: Path | None
) -> ReferenceFrames:
    """Real frames that the form fits, at least one normal, from the checkpoint or the folder."""
    size = contract.form.size
    real = real_frames(loaded, contract, folder)
    if not real.normals:
        raise UsageError(
            f"{checkpoint} carries no reference frames for the parity gate: give some with "
            "--frames DIR"
        )
    if size is not None:
        _check_sizes(size, real.all)
    return real


def _check_sizes(size: tuple[int, int], frames: Sequence[Batch]) -> None:
    """Refuse frames of another size than the fixed one."""
    for frame in frames:
        height, width = frame.frames.shape[1:3]
        if (height, width) != size:
            raise UsageError(
                f"the reference frames have {width} x {height} pixels, and with a fixed size of "
                f"{size[1]} x {size[0]} the gate needs frames of that size: give some with "
                "--frames DIR"
            )
