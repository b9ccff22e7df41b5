"""A camera by its number, in OpenCV's place: its colours, also after it was plugged out and in."""

import numpy as np
import pytest

from adae_edge.errors import SourceError
from adae_edge.runtime.sources import camera


class Plugged:
    """Blue pictures in OpenCV's order of colours; each time it is opened it gives two."""

    left = 0

    def open(self, number):
        self.left = 2
        return True

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.broadcast_to(np.uint8([255, 0, 0]), (4, 6, 3)).copy()

    def release(self):
        self.left = 0


def test_colours_are_in_one_order_before_and_after_a_camera_was_away(monkeypatch):
    monkeypatch.setattr(camera.cv2, "VideoCapture", Plugged)
    capture = camera.Numbered(0)
    for _ in range(3):
        capture.open()
        for _ in range(2):
            assert capture.read().pixels[0, 0].tolist() == [0, 0, 255]
        with pytest.raises(SourceError, match="no more frames"):
            capture.read()
        capture.close()
