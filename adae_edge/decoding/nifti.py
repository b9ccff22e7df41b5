"""Reading NIfTI volumes: the one file that needs the [nifti] extra."""

from __future__ import annotations

import gzip
import io
import logging
import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.decoding.objects import BrainMask
from adae_edge.decoding.volumes import Place, Volume, layout_of
from adae_edge.errors import FrameError, first_line
from adae_edge.extras import needs
from adae_edge.grid import Grid
from adae_edge.interface import check_size

with needs("Reading NIfTI volumes", "nifti"):
    import nibabel


# Decompressed; a volume of 512 x 512 x 1000 voxels at 16 bits has half of it.
MAX_BYTES = 2**30

# Units of length that a header may name, in mm; without a name they are mm.
_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}

# What nibabel repairs in a header, it logs to the terminal.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file, .nii or .nii.gz, scaled as its header says.

    Values that are not finite are left to whoever looks at them.

    Raises:
        FrameError: no NIfTI file, damaged, cut short, not of three dimensions, or too large.
    """
    try:
        data = _decompressed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _volume(data, path)
    except FrameError:
        raise
    except FileNotFoundError as error:
        raise FrameError(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FrameError(f"{path} is cut short or damaged: it cannot be decompressed") from error
    except Exception as error:  # nibabel raises many kinds on damaged data
        raise FrameError(f"{path} cannot be read as NIfTI: {first_line(error)}") from error


def read_mask(path: Path) -> BrainMask:
    """Read a mask, which is True where the nearest whole number is above 0.

    Raises:
        FrameError: as ``read_volume``, or values are not finite.
    """
    volume = read_volume(path)
    if not np.isfinite(volume.values).all():
        raise FrameError(f"{path} has voxels that are not finite numbers")
    return BrainMask(str(path), np.asarray(np.rint(volume.values) > 0), volume.grid)


def _decompressed(path: Path) -> bytes:
    """The whole file, so that gzip's checksum is compared too."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        data: bytes = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FrameError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
    return data


def _volume(data: bytes, path: Path) -> Volume:
    """Turn the bytes of a NIfTI-1 or NIfTI-2 file into a volume."""
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

    # its voxels by the patient's axes
    grid = _grid(image)
    layout = layout_of(grid.steps)
    if layout is None:
        raise FrameError(f"{path} does not say where its axes go")
    stored = layout.turn(np.asanyarray(image.dataobj.get_unscaled()).reshape(shape[:3]))
    check_size(stored.shape[1], stored.shape[2], str(path))
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    with np.errstate(over="ignore", invalid="ignore"):  # not finite then, and refused
        scaled = stored if (slope, intercept) == (1, 0) else stored * float(slope) + intercept
        values = np.array(scaled, np.float32, order="C")
    places = [Place(str(path), number) for number in range(len(values))]
    return Volume(str(path), values, layout.grid(grid, shape), places, stored)


def _grid(image: Any) -> Grid:
    """Where the voxels of a file lie in DICOM's patient, whose x and y are NIfTI's, reversed."""
    unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    affine = np.diag([-unit, -unit, unit]) @ np.asarray(image.affine, np.float64)[:3]
    return Grid(affine[:, 3], affine[:, :3].T)
