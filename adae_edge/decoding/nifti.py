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

    Args:
        path: the volume. Without a mask it has to be skull-stripped: what is not 0 is brain.
        mask: a volume of the same shape, above 0 in the brain.

    Raises:
        FrameError: a file is refused, the mask is of another shape, or there is no brain or only
            one value in it.
    """
    slices = read_volume(path)
    if mask is not None:
        inside = read_volume(mask) > 0
        if inside.shape != slices.shape:
            raise FrameError(
                f"{mask} has the shape {_shape(inside)}, and {path}, which it masks, has "
                f"{_shape(slices)}"
            )
        slices[~inside] = 0
    brain = slices != 0
    area = brain.sum(axis=(1, 2))
    if not area.any():
        inside_mask = " inside its mask" if mask else ""
        raise FrameError(f"{path} shows no brain: every voxel{inside_mask} is 0")
    values = slices[brain].astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    if not np.float32(std) > 0:
        raise FrameError(f"{path} shows nothing: every voxel of the brain is {mean:g}")
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
    try:
        data = _decompressed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = _canonical(data, path)
    except FrameError:
        raise
    except FileNotFoundError as error:
        raise FrameError(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FrameError(f"{path} is cut short or damaged: it cannot be decompressed") from error
    except Exception as error:  # nibabel raises many kinds on damaged data
        raise FrameError(f"{path} cannot be read as NIfTI: {first_line(error)}") from error
    if not np.isfinite(values).all():
        raise FrameError(f"{path} has voxels that are not finite numbers")
    return values


def _decompressed(path: Path) -> bytes:
    """The whole file, so that gzip's checksum is compared too."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        data: bytes = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FrameError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
    return data


def _canonical(data: bytes, path: Path) -> Volume:
    """Turn the bytes of a NIfTI-1 or NIfTI-2 file into slices, float32 [S, H, W]."""
    # which version it is
    if data[344:348] == b"n+1\0":
        kind = nibabel.Nifti1Image
    elif data[4:8] == b"n+2\0":
        kind = nibabel.Nifti2Image
    else:
        raise FrameError(f"{path} is no NIfTI file")

    # what its header declares
    image: Any = kind.from_stream(io.BytesIO(data))
    shape, dtype = image.header.get_data_shape(), image.header.get_data_dtype()
    if len(shape) != 3:
        raise FrameError(f"{path} has {len(shape)} dimensions, and a volume has 3")
    if dtype.kind not in "iuf":
        raise FrameError(f"{path} has voxels of type {dtype}, and not one number each")
    if min(shape) < 1 or image.dataobj.offset + math.prod(shape) * dtype.itemsize > len(data):
        raise FrameError(
            f"{path} declares {' x '.join(map(str, shape))} voxels and is cut short or damaged"
        )

    # its voxels by the patient's axes, which then go to the right, to the front and up
    image = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
    values = np.asanyarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    check_size(values.shape[1], values.shape[2], str(path))
    with np.errstate(over="ignore"):  # infinite then, and refused
        return np.ascontiguousarray(values, np.float32)


def _shape(volume: NDArray[Any]) -> str:
    return " x ".join(map(str, volume.shape[::-1]))
