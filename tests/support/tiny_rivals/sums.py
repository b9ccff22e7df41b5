"""Contenders that sum a frame, and some that fail."""

import os
import time

PACKAGES = ("sums==1",)


def prepare(folder):
    print("said by a library on standard output")
    (folder / "offset.txt").write_text("1000")


def summed(folder, threads, size):
    offset = int((folder / "offset.txt").read_text())
    return lambda frame: frame.sum(dtype=int) + offset


def slow(folder, threads, size):
    def score(frame):
        time.sleep(0.005)
        return [float(frame.shape[1])]

    return score


def unloadable(folder, threads, size):
    raise OSError("there are no weights")


def dying(folder, threads, size):
    calls = []

    def score(frame):
        calls.append(1)
        if len(calls) > 1:
            os._exit(7)
        return 0.0

    return score


CONTENDERS = {"summed": summed, "slow": slow, "unloadable": unloadable, "dying": dying}
