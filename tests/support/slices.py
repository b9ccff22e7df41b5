"""Small DICOM files, written by pydicom."""

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian


def write_slice(path, pixels, syntax=ExplicitVRLittleEndian, **attributes):
    """A CT slice with these pixels; an attribute that is None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    frames = pixels if attributes.get("NumberOfFrames") else pixels[None]
    grey = {
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "SamplesPerPixel": 1 if frames.ndim == 3 else frames.shape[3],
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": pixels.itemsize * 8,
        "BitsStored": pixels.itemsize * 8,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    for name, value in (grey | attributes).items():
        if value is not None:
            setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    if data.SamplesPerPixel == 3 and "PlanarConfiguration" not in data:
        data.PlanarConfiguration = 0
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    data.save_as(
        path,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return path
