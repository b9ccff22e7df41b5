"""Heads with skull over a scanner's noise, for models that take whole heads."""

import numpy as np


def scan(seed=0, shape=(40, 48, 16), size=1.0):
    """A head, int [X, Y, Z], which go to the right, to the front and up; and where its brain is.

    Args:
        seed: of the person.
        shape: of the volume.
        size: of the head, compared with the volume.
    """
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    x, y, z = (axis / size for axis in axes)
    radius = np.sqrt(x**2 / random.uniform(0.6, 0.7) + y**2 / random.uniform(0.7, 0.8) + z**2 / 2)
    brain = radius < 0.8
    values = 300 + 60 * np.cos(4 * x) * np.cos(3 * y) + random.normal(0, 8, shape)
    values = np.where(brain, values, np.where(radius < 0.88, 30, 420))
    values = np.where(radius < 0.95, values, np.abs(random.normal(0, 6, shape)))
    return np.round(values * random.uniform(0.8, 1.2)).astype(np.int16), brain
