"""Made-up frames through every sink at once, with real peers, for a moment."""

from adae_edge.benchmarks import soak_sinks
from adae_edge.benchmarks.faults.lab import Lab
from tests.support.peers import peers


def test_every_sink_has_every_row_or_says_that_it_waits(tmp_path):
    with peers(), (tmp_path / "samples").open("w+") as kept:
        figures = soak_sinks.soak_sinks(Lab.at(tmp_path / "lab"), 300, 0.2, kept)
        kept.seek(0)
        assert len(kept.readlines()) >= len(figures["samples"]) > 0
    assert figures["exit_code"] == 0
    rows, waiting = figures["rows"], figures["waiting"]
    assert all(rows[name] + waiting.get(name, 0) >= 300 for name in rows)
    assert all(rows[name] == 300 for name in ("jsonl", "csv", "sqlite"))
    assert figures["descriptors"]["most"] < 100
