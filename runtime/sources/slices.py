"""The slices of a scan as frames, whatever source the scan is from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from adae_edge.decoding.instances import dataset_of
from adae_edge.decoding.kinds import Member
from adae_edge.decoding.rules import VOLUMES
from adae_edge.decoding.scans import Scan
from adae_edge.errors import FrameError
from adae_edge.runtime.frame import Cut, Event, Frame
from adae_edge.runtime.sources.ends import instance_of
from adae_edge.runtime.sources.source import Wanted, failure

_log = logging.getLogger(__name__)


def scan_frames(
    scan: Scan,
    wanted: Wanted,
    source: str = "",
    dataset: Callable[[Path | Member], Any] = dataset_of,
    complete: str = "",
) -> Iterator[Frame | Event]:
    """The slices of a scan that show enough of the object, in its field of view.

    Args:
        scan: is read when the first frame is asked for.
        wanted: the frames that the model takes.
        source: of slices that are frames of files, in place of those; "" for these.
        dataset: reads the attributes of a file.
        complete: by what the series is known to be so, where it was waited for.

    Yields:
        Frames float32 [H, W, 1] from the feet up, or the failure of the scan, and a note on a mask
        that was found beside it.
    """
    rule = wanted.object or "nonzero"
    try:
        slices = scan.slices(rule)
        field = slices.field(wanted.field_of_view)
    except FrameError as error:
        yield failure(source or scan.name, error)
        return
    volume = slices.volume
    about = {"person": volume.person, "complete": complete}
    if scan.mask_beside and rule != "head":
        detail = f"{scan.name} has its brain mask beside it, {scan.mask_beside}, which is used"
        yield Event(scan.name, time.time(), "note", detail)
    _log.info("%s: %d slices are shown", scan.name, len(slices.shown))
    whole = wanted.field_of_view is None
    cut = None if whole else Cut(field.top, field.left, *volume.values.shape[1:])
    for number in slices.shown.tolist():
        place, id_ = volume.places[number]
        place = source if source and isinstance(id_, str) else place
        if wanted.done(place, id_):
            continue
        instance = None
        if volume.origins:
            origin, file = volume.origins[number]
            instance = instance_of(origin, partial(dataset, file))
        yield Frame(
            place,
            id_,
            time.time(),
            slices.slice(number, field)[..., None],
            slices.mean,
            slices.std,
            decoding=VOLUMES,
            about={name: text for name, text in about.items() if text},
            acquisition=volume.acquisition,
            instance=instance,
            cut=cut,
            grid=volume.grid.at(number),
        )
