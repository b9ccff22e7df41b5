"""The regions of an anomaly map above its threshold, as boxes in the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.placement import placement_of
from adae_edge.runtime.frame import Box

MOST = 20  # boxes of a frame


def boxes_of(
    anomaly_map: NDArray[np.float32], contract: Contract, height: int, width: int, most: int = MOST
) -> tuple[Box, ...] | None:
    """Put boxes around what is above the map's threshold and touches, corners included.

    Args:
        anomaly_map: float32 [S, S] or [H, W], as the contract says.
        contract: of the model that returned it.
        height, width: of the frame, pixels.
        most: how many boxes at most.

    Returns:
        The boxes in the frame's pixels, the one with the highest peak first. None where the
            contract has no threshold for the map.
    """
    threshold = contract.calibration.map_threshold
    if threshold is None:
        return None
    place = placement_of(contract, height, width)
    above = place.shown(anomaly_map)
    first_row, first_column = place.rows.shown.start, place.columns.shown.start
    boxes = []
    for top, bottom, left, right, peak in _regions(above, threshold)[:most]:
        y, box_height = place.rows.in_frame(first_row + int(top), first_row + int(bottom))
        x, box_width = place.columns.in_frame(first_column + int(left), first_column + int(right))
        boxes.append(Box(x, y, box_width, box_height, float(peak)))
    return tuple(boxes)


def _regions(
    values: NDArray[np.float32], threshold: float
) -> list[tuple[int, int, int, int, float]]:
    """The connected regions of values [h, w] above the threshold, the highest peak first.

    Returns:
        First row, row after the last, first column, column after the last, and the peak of each.
    """
    if not values.max() > threshold:
        return []

    # runs of pixels in a row; the column added at the right ends the last one of each row
    stride = values.shape[1] + 1
    padded = np.full((len(values), stride), -np.inf, np.float32)
    padded[:, :-1] = values
    flat = padded.ravel()
    above = np.concatenate([[False], flat > threshold])
    changes = np.flatnonzero(above[1:] != above[:-1])
    starts, ends = changes[::2], changes[1::2]
    peaks = np.maximum.reduceat(flat, changes)[::2]

    # pairs of runs that touch from one row to the next
    first = np.searchsorted(ends, starts + stride, "left")
    last = np.searchsorted(starts, ends + stride, "right")
    count = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), count)
    lower = np.arange(len(upper)) + np.repeat(first - (np.cumsum(count) - count), count)
    names, region = np.unique(_labels(len(starts), upper, lower), return_inverse=True)

    # the extent and the peak of each region
    rows, left = np.divmod(starts, stride)
    right = left + (ends - starts)
    table: list[NDArray[Any]] = []
    for of, column, worst in (
        (np.minimum, rows, len(values)),
        (np.maximum, rows + 1, 0),
        (np.minimum, left, stride),
        (np.maximum, right, 0),
        (np.maximum, peaks, -np.inf),
    ):
        table.append(np.full(len(names), worst, column.dtype))
        of.at(table[-1], region, column)
    order = np.argsort(-table[-1], kind="stable")
    return list(zip(*(column[order].tolist() for column in table), strict=True))


def _labels(count: int, upper: NDArray[np.intp], lower: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give each of ``count`` runs the number of the first one that it is connected with.

    Args:
        count: of the runs.
        upper, lower: int [P], the pairs that touch.

    Returns:
        int [count].
    """
    labels = np.arange(count)
    while True:
        least = np.minimum(labels[upper], labels[lower])
        if (labels[upper] == least).all() and (labels[lower] == least).all():
            return labels
        # The roots of both take the smaller one, and then every run the root of its root.
        np.minimum.at(labels, labels[upper], least)
        np.minimum.at(labels, labels[lower], least)
        while (labels[labels] != labels).any():
            labels = labels[labels]
