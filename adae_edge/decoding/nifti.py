"""Reading NIfTI volumes into slices: the one file that needs the [nifti] extra.

A slice lies as a DICOM axial slice does: row 0 is the patient's front, column 0 the patient's
right, and slice 0 is nearest to the feet. Which voxels of a file these are follows from its own
orientation.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError, first_line
from adae_edge.extras import needs
from adae_edge.interface import check_size

with needs("Reading NIfTI volumes", "nifti"):
    import nibabel


Volume = NDArray[np.float32]


# Decompressed; a volume of 512 x 512 x 1000 voxels at 16 bits has half of it.
MAX_BYTES = 2**30

# A slice with less brain than this part of the volume's largest has hardly any: the poles and the
# neck, where what is left of the brain differs more between people than between healthy and ill.
MIN_BRAIN = 0.2


# A volume with so few whole values, none of them large, is a mask.
_MAX_LABELS, _MAX_LABEL = 16, 255

# What a voxel of the brain becomes whose value is 0, in standard deviations: 0 is background.
_NEARLY_0 = 1e-6

# What nibabel repairs in a header, it logs to the terminal.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


class Brain(NamedTuple):
    """The slices of a volume, and what standardises them.

    Attributes:
        slices: float32 [S, H, W] in the volume's units, 0 outside of the brain.
        shown: int [K], the slices that show enough of the brain to be judged.
        mean, std: of the brain's voxels.
    """

    slices: Volume
    shown: NDArray[np.intp]
    mean: float
    std: float


def read_brain(path: Path, mask: Path | None = None) -> Brain:
    """Read a volume of a head.

    Without a mask the volume has to be skull-stripped, and the brain is what is not background. The
    background is the stored value that fills at least half of the volume's faces, before slope and
    intercept: these turn a background of 0 into another number. Where no value does, it is 0.

    Args:
        path: the volume.
        mask: a volume of the same shape, 1 in the brain; every other voxel is background then.

    Raises:
        FrameError: a file is refused, the mask is of another shape, there is no brain or only one
            value in it, or its few whole values are labels.
    """
    stored, slices = _read(path)
    if mask is None:
        brain = stored != _background(stored)
    else:
        brain = read_mask(mask)
        if brain.shape != slices.shape:
            raise FrameError(
                f"{mask} has the shape {_shape(brain)}, and {path}, which it masks, has "
                f"{_shape(slices)}"
            )
        brain &= slices != 0
    slices[~brain] = 0
    _check_finite(slices, path)
    area = brain.sum(axis=(1, 2))
    if not area.any():
        inside_mask = " inside its mask" if mask else ""
        raise FrameError(f"{path} shows no brain: every voxel{inside_mask} is background")
    values = slices[brain].astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    if not np.float32(std) > 0:
        raise FrameError(f"{path} shows nothing: every voxel of the brain is {mean:g}")
    if _are_labels(stored[brain]):
        raise FrameError(f"{path} holds labels, such as a tumour's mask, and no picture")
    slices[brain & (slices == 0)] = std * _NEARLY_0
    return Brain(slices, np.flatnonzero(area >= MIN_BRAIN * area.max()), mean, std)


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file, .nii or .nii.gz.

    Returns:
        float32 [S, H, W], scaled as the header says: slices from the feet up, rows from the front,
        columns from the patient's right.

    Raises:
        FrameError: no NIfTI file, damaged, cut short, not of three dimensions, too large, or with
            values that are not finite numbers.
    """
    _, values = _read(path)
    _check_finite(values, path)
    return values


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask, bool [S, H, W]: True where the nearest whole number is above 0.

    Raises:
        FrameError: as ``read_volume``.
    """
    return np.asarray(np.rint(read_volume(path)) > 0)


def _read(path: Path) -> tuple[NDArray[Any], Volume]:
    """The voxels of a file as they are stored, and scaled as the header says, both [S, H, W].

    Raises:
        FrameError: as ``read_volume``, but for values that are not finite.
    """
    try:
        data = _decompressed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _canonical(data, path)
    except FrameError:
        raise
    except FileNotFoundError as error:
        raise FrameError(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FrameError(f"{path} is cut short or damaged: it cannot be decompressed") from error
    except Exception as error:  # nibabel raises many kinds on damaged data
        raise FrameError(f"{path} cannot be read as NIfTI: {first_line(error)}") from error


def _check_finite(values: Volume, path: Path) -> None:
    if not np.isfinite(values).all():
        raise FrameError(f"{path} has voxels that are not finite numbers")


def _background(stored: NDArray[Any]) -> Any:
    """The stored value that fills at least half of a volume's six faces; 0 if none does."""
    faces = [stored[[0, -1]], stored[:, [0, -1]], stored[:, :, [0, -1]]]
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    most = counts.argmax()
    return values[most] if 2 * counts[most] >= counts.sum() else 0


def _are_labels(values: NDArray[Any]) -> bool:
    """Whether values are a few whole numbers from 0 on."""
    low, high = values.min(), values.max()
    if low < 0 or high > _MAX_LABEL or not np.array_equal(values, np.rint(values)):
        return False
    return len(np.unique(values)) <= _MAX_LABELS


def _decompressed(path: Path) -> bytes:
    """The whole file, so that gzip's checksum is compared too."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        data: bytes = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FrameError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
    return data


def _canonical(data: bytes, path: Path) -> tuple[NDArray[Any], Volume]:
    """Turn the bytes of a NIfTI-1 or NIfTI-2 file into slices [S, H, W], stored and scaled."""
    # which version it is
    if data[344:348] == b"n+1\0":
        kind = nibabel.Nifti1Image
    elif data[4:8] == b"n+2\0":
        kind = nibabel.Nifti2Image
    else:
        raise FrameError(f"{path} is no NIfTI file")

    # what its header declares
    read_header: Any = kind.header_class.from_fileobj
    header = read_header(io.BytesIO(data))
    if np.isinf([header["scl_slope"], header["scl_inter"]]).any():
        raise FrameError(f"{path} has a slope or an intercept that is not finite")
    image: Any = kind.from_stream(io.BytesIO(data))
    shape, dtype = image.header.get_data_shape(), image.header.get_data_dtype()
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise FrameError(f"{path} has {len(shape)} dimensions, and a volume has 3")
    if dtype.kind not in "iuf":
        raise FrameError(f"{path} has voxels of type {dtype}, and not one number each")
    if min(shape) < 1 or image.dataobj.offset + math.prod(shape) * dtype.itemsize > len(data):
        raise FrameError(
            f"{path} declares {' x '.join(map(str, shape))} voxels and is cut short or damaged"
        )

    # its voxels by the patient's axes, which then go to the right, to the front and up
    orientation: Any = nibabel.orientations
    axes = orientation.io_orientation(image.affine)
    stored = np.asanyarray(image.dataobj.get_unscaled()).reshape(shape[:3])
    stored = orientation.apply_orientation(stored, axes)[::-1, ::-1].transpose(2, 1, 0)
    check_size(stored.shape[1], stored.shape[2], str(path))
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    with np.errstate(over="ignore", invalid="ignore"):  # not finite then, and refused
        scaled = stored if (slope, intercept) == (1, 0) else stored * float(slope) + intercept
        return stored, np.array(scaled, np.float32, order="C")


def _shape(volume: NDArray[Any]) -> str:
    return " x ".join(map(str, volume.shape[::-1]))
