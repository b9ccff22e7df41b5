"""Videos that ffmpeg writes, and what happens to such files."""

import av
import numpy as np

from adae_edge.benchmarks import mutated_videos
from adae_edge.benchmarks.mutated_videos import CLIPS as KINDS
from adae_edge.benchmarks.mutated_videos import FRAMES
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video
from tests.support.peers import peer

__all__ = ["FRAMES", "KINDS"]


def ffmpeg(*arguments, input=None):
    """Run ffmpeg on one thread, silently."""
    peer("ffmpeg")
    return mutated_videos.ffmpeg(*arguments, content=input)


def content(name):
    """The bytes of a clip of 40 frames of 96 x 80, one of ``KINDS``."""
    peer("ffmpeg")
    return mutated_videos.clip(name)


def write(folder, name):
    """Write a clip, one of ``KINDS``, into a folder."""
    path = folder / name
    path.write_bytes(content(name))
    return path


def read(path):
    """The frames that a video gives, and the events between them."""
    items = list(Video(str(path), Wanted()))
    events = [item for item in items if isinstance(item, Event)]
    return [item for item in items if not isinstance(item, Event)], events


def damage(path, number, seed=0):
    """Change the bytes of one packet, in the order of the file, from its middle on."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        sizes = [(packet.pos, packet.size) for packet in packets]
    data = bytearray(path.read_bytes())
    start, size = sizes[number]
    half = size // 2
    noise = np.random.default_rng(seed).integers(0, 256, half, np.uint8).tobytes()
    data[start + size - half : start + size] = noise
    path.write_bytes(data)
