"""The faults that need seconds and no privilege, done to the real command."""

import pytest

from adae_edge.benchmarks.faults.__main__ import FAULTS, attempt
from tests.support.peers import peer


@pytest.mark.parametrize("number", [number for number, each in FAULTS.items() if each.fast])
def test_a_fault_loses_doubles_and_invents_no_row(number):
    peer("ffmpeg")

    result = attempt(FAULTS[number])

    if result["outcome"] == "not tried":
        pytest.skip(result["seen"])
    assert result["outcome"] == "right", result
