"""Series of slices through a head, and a model file that takes whole heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pydicom
from onnx import TensorProto, helper, numpy_helper
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from adae_edge.benchmarks.peers.numbers import a_contract
from adae_edge.decoding.rules import rules_of
from adae_edge.formats import modelfile

_SHAPE = (40, 48)  # columns and rows of a slice


def write_series(folder: Path, uid: str, slices: int, seed: int) -> list[Path]:
    """Write a series of axial slices, from the feet up; names begin with the last part of its UID.

    Args:
        folder: for the files.
        uid: of the series, before those of its study and its instances.
        slices: how many.
        seed: of the person.
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in (*_SHAPE, slices)), indexing="ij")
    random = np.random.default_rng(seed)
    radius = np.sqrt(axes[0] ** 2 / 0.65 + axes[1] ** 2 / 0.75 + axes[2] ** 2 / 2)
    values = np.where(radius < 0.88, 30, 420)  # fluid and fat around the brain
    values = np.where(radius < 0.8, 300 + random.normal(0, 8, radius.shape), values)
    values = np.where(radius < 0.95, values, np.abs(random.normal(0, 6, radius.shape)))
    paths = []
    for number in range(slices):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, f"{uid}.{number + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID = f"{uid}.0", uid
        data.Modality, data.PatientID, data.InstanceNumber = "MR", "7", number + 1
        data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        data.ImagePositionPatient = [-20, -31, 17 + 2 * number]
        data.Columns, data.Rows = _SHAPE
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.add_new("PixelData", "OW", values[:, :, number].T.astype("<i2").tobytes())
        paths.append(folder / f"{uid.rpartition('.')[2]}-{number:04}.dcm")
        pydicom.dcmwrite(paths[-1], data, enforce_file_format=True)
    return paths


def model() -> bytes:
    """The bytes of a model file whose score is a slice's mean, in standard deviations."""
    sizes: Sequence[str | int] = ["N", "H", "W", 1]
    value, number = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["frames", "axes"], ["level"], keepdims=0),
            helper.make_node("Sub", ["level", "mean"], ["moved"]),
            helper.make_node("Div", ["moved", "std"], ["score"]),
        ],
        "slices",
        [value("frames", number, sizes), value("mean", number, ["N"]), value("std", number, ["N"])],
        [value("score", number, ["N"])],
        [numpy_helper.from_array(np.array([1, 2, 3]), "axes")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    contract = replace(
        a_contract(), kind="modality", z_range=5.0, object="head", decoding=rules_of("modality")
    )
    return modelfile.with_contract(made.SerializeToString(), contract)
