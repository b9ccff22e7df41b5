"""Real data, which is not in the repository: beside the checkout, or where ADAE_EDGE_DATA says."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("ADAE_EDGE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real(*places: str) -> Path:
    """The first of these places in the data that is there; the test is skipped where none is."""
    for place in places:
        if (DATA / place).is_dir():
            return DATA / place
    pytest.skip(f"{places[0]} is not here")
