"""Series of DICOM slices, written by pydicom as a scanner's software does."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from adae_edge.decoding.planes import planes_of, values_of
from adae_edge.errors import FrameError

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def planes_here(files):
    """The planes of each file, or why it has none, read in this process."""
    for file in files:
        try:
            yield list(planes_of(file))
        except FrameError as error:
            yield error


def values_here(wanted):
    """The values of frames of files, decoded in this process."""
    for file, planes in wanted:
        yield from values_of(file, [plane.number for plane in planes], planes[0].stored)


def turned(values, axes="LPS", spacing=(1.0, 1.0, 2.0)):
    """A NIfTI image of values [X, Y, Z], which go right, front and up, stored along other axes."""
    image = nibabel.Nifti1Image(np.asarray(values, np.int16), np.diag([*spacing, 1.0]))
    image.affine[:3, 3] = (-20, -31, 17)
    return image.as_reoriented(
        ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes)))
    )


def write_series(folder: Path, image, order=None, shift=0, changed=None, **header) -> list[Path]:
    """Write a file for each slice along the last axis of an image.

    Args:
        folder: for the files.
        image: as ``turned`` makes it; the first axis becomes columns, and the second one rows.
        order: of the slices, by which files are named; None for that of the image.
        shift: is stored in place of 0; the rescaling takes it back.
        changed: called with the number of a slice and its data set before that is written.
        header: attributes of every file in place of the usual ones.
    """
    values, affine = np.asarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    steps = affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    uids = {"SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in enumerate(order if order is not None else range(values.shape[2])):
        data = _head(MR, values.shape, uids | header)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.InstanceNumber = name + 1
        data.ImageOrientationPatient = _texts(
            [*steps[:, 0] / lengths[0], *steps[:, 1] / lengths[1]]
        )
        data.ImagePositionPatient = _texts((affine @ [0, 0, number, 1])[:3])
        data.PixelSpacing = _texts([lengths[1], lengths[0]])
        data.RescaleSlope, data.RescaleIntercept = 1, -shift
        data.PixelData = (values[:, :, number].T + shift).astype("<i2").tobytes()
        if changed is not None:
            changed(number, data)
        paths.append(folder / f"{name:04}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(path: Path, image, order=None) -> Path:
    """Write all slices along the last axis of an image into one enhanced file, in an order."""
    values, affine = np.asarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    steps = affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    order = list(range(values.shape[2]) if order is None else order)
    data = _head(ENHANCED_MR, values.shape, {"SeriesInstanceUID": generate_uid()})
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.NumberOfFrames = len(order)
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _texts(
        (steps / lengths)[:, :2].T.ravel()
    )
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = _texts([lengths[1], lengths[0]])
    shared.PixelValueTransformationSequence = [Dataset()]
    transformation = shared.PixelValueTransformationSequence[0]
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, 0
    transformation.RescaleType = "US"
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for number in order:
        group = Dataset()
        group.PlanePositionSequence = [Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = _texts(
            (affine @ [0, 0, number, 1])[:3]
        )
        data.PerFrameFunctionalGroupsSequence.append(group)
    data.PixelData = b"".join(values[:, :, number].T.astype("<i2").tobytes() for number in order)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _texts(numbers):
    """Numbers as a header has them, 16 characters at most."""
    return [f"{number:.10g}"[:16] for number in numbers]


def _head(kind, shape, attributes):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
    data.Modality, data.PatientID, data.PatientName = "MR", "7", "A^B"
    data.StudyInstanceUID, data.SeriesNumber = generate_uid(), 5
    data.SeriesDescription = "t1 mprage"
    data.Manufacturer, data.ManufacturerModelName = "SIEMENS", "Verio"
    data.MagneticFieldStrength, data.ScanningSequence = 3, "GR"
    data.SequenceVariant, data.MRAcquisitionType = "SP", "3D"
    data.Columns, data.Rows = shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    for name, value in attributes.items():
        setattr(data, name, value)
    return data
