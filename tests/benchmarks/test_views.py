"""A broker's subscriber and a Prometheus server count what the command counts."""

from adae_edge.benchmarks.faults.lab import Lab
from adae_edge.benchmarks.views import views
from tests.support.peers import peers


def test_all_count_the_same(tmp_path):
    with peers():
        seen = views(Lab.at(tmp_path / "lab"), 100, 20)
    summary, asked = seen["summary"], seen["prometheus"]
    assert seen["exit_code"] == 0
    assert summary["frames"] + summary["skipped"] == seen["frames_made"] == 100
    assert seen["rows_of_jsonl"] == summary["frames"] == seen["mosquitto_sub"]["different_rows"]
    assert {name: asked[name] for name in summary} == summary
    assert (asked["failed"], asked["scrapes_that_saw_it_down"]) == (0, 0)
