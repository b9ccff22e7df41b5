"""Small NIfTI volumes, written by nibabel as scanners' software does."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from adae_edge.decoding.scans import nifti_scan


def write_volume(path: Path, values, axes="LPS", dtype=np.int16) -> Path:
    """Write a volume, stored along other axes than those that its values have.

    Args:
        path: the file.
        values: [X, Y, Z], whose axes go to the right, to the front and up.
        axes: where the axes of the file go, in nibabel's letters.
        dtype: of the file.
    """
    image = nibabel.Nifti1Image(np.asarray(values, dtype), np.diag([1.0, 1.0, 2.0, 1.0]))
    image = image.as_reoriented(
        ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes)))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def read_brain(path: Path, mask: Path | None = None):
    """The slices of a volume by the rule "nonzero", as training and scoring read it."""
    return nifti_scan(path, mask).slices("nonzero")


def head(seed, tumour=False, shape=(40, 48, 24)):
    """A skull-stripped head, int [X, Y, Z] with 0 outside, and its tumour, bool [X, Y, Z]."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.9
    values = 300 + 40 * np.cos(4 * axes[0]) * np.cos(3 * axes[1]) + random.normal(0, 5, shape)
    place = random.uniform(-0.2, 0.2, 3) if tumour else (9, 9, 9)
    blob = sum((axis - at) ** 2 for axis, at in zip(axes, place, strict=True)) < 0.08
    values = np.where(blob, values + 200, values)
    return np.where(brain, values * random.uniform(0.5, 2), 0).astype(np.int16), blob & brain


def write_patients(
    folder: Path, count=6, name="BraTS2021_{:05}", volume="_flair", mask="_seg", end=".nii.gz"
) -> Path:
    """Patients with a tumour each, in a layout of BraTS."""
    for number in range(count):
        values, tumour = head(number, tumour=True)
        patient = name.format(number)
        write_volume(folder / patient / f"{patient}{volume}{end}", values)
        write_volume(folder / patient / f"{patient}{mask}{end}", tumour * 4, dtype=np.uint8)
    return folder
