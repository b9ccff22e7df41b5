"""The result of a DICOM series, as a sink gathers it, of files or of headers made up here."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from adae_edge.benchmarks.peers.numbers import a_contract
from adae_edge.placement import placement
from adae_edge.runtime.dicom.results.result import SeriesResult
from adae_edge.runtime.frame import Frame, Instance, Scored, SeriesEnd

MR = "1.2.840.10008.5.1.4.1.1.4"
NAME = "Quibblewick^Ottoline"


def header(number=1, **values):
    """The header of a made-up MR slice; None leaves an attribute out."""
    made = Dataset()
    known = {
        "SOPClassUID": MR,
        "SOPInstanceUID": f"1.2.3.4.{number}",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "Modality": "MR",
        "PatientName": NAME,
        "PatientID": "QW-1",
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "StudyDate": "20240203",
        "StudyTime": "101112",
        "AcquisitionDate": "20240203",
        "AcquisitionTime": "101500.25",
        "AccessionNumber": "A1",
        "Rows": 64,
        "Columns": 48,
        "PixelSpacing": [0.5, 0.5],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, 2.0 * number],
    }
    for name, value in (known | values).items():
        if value is not None:
            setattr(made, name, value)
    return made


def headers_of(files):
    """The headers of DICOM files."""
    return [dcmread(file, stop_before_pixels=True, force=True) for file in files]


def result_of(headers, scores, threshold=1.0, numbers=None, with_map=True, **changed):
    """What is known of a series with these headers, one for each slice, and scores."""
    slices = []
    for n, (each, score) in enumerate(zip(headers, scores, strict=True)):
        uids = [str(each.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID")]
        uids += [str(each.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID")]
        instance = Instance(*uids, numbers[n] if numbers else 0, lambda each=each: each)
        rows, columns = (min(int(each.get(name) or 64), 400) for name in ("Rows", "Columns"))
        shown = np.indices((rows, columns)).sum(axis=0) % 256
        frame = Frame(f"slice{n}.dcm", n, 0.0, shown.astype(np.uint8)[..., None], instance=instance)
        map_ = np.zeros((16, 16), np.float32)
        map_[4:7, 9:12] = score * 2
        slices.append(
            Scored(
                frame,
                score,
                threshold,
                anomaly_map=map_ if with_map else None,
                placement=placement(rows, columns, 16, False, None) if with_map else None,
                map_threshold=threshold if with_map else None,
                calibrated=changed.get("calibrated", True),
            )
        )
    highest = max(slices, key=lambda scored: scored.score)
    end = SeriesEnd(
        slices[0].frame.instance.series,
        changed.get("complete", "files"),
        changed.get("revision", 1),
        changed.get("slices", len(slices)),
        changed.get("object", ""),
    )
    contract = a_contract(1, threshold)
    return SeriesResult(
        tuple(slices), highest, end, contract, "model.onnx", changed.get("replaces")
    )


def written(dataset):
    """The bytes of an object as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(dataset):
    """An object after it was written and read."""
    return dcmread(io.BytesIO(written(dataset)))


def faults(dataset, folder):
    """What dciodvfy calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    path = folder / "object.dcm"
    path.write_bytes(written(dataset))
    told = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return [line for line in told.stderr.splitlines() if line.startswith("Error")]
