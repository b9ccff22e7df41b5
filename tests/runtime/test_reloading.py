"""A model that is loaded again while a stream runs."""

from dataclasses import replace

import pytest

from adae_edge.contract import Region
from adae_edge.errors import UsageError
from adae_edge.formats import modelfile
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.intake import Intake
from adae_edge.runtime.reloading import NOWHERE, Reloader
from tests.support.models import mean_model
from tests.support.streams import Counted, Listed, Steps, frame


@pytest.fixture
def reloading(tmp_path):
    """A function that runs a stream of two frames, and between them puts a file for the model's.

    It returns the sink with the results; ``None`` takes the file away.
    """

    def run(data, threshold=None):
        path = tmp_path / "m.onnx"
        path.write_bytes(mean_model(1))
        camera = Steps(frame(0, 60), frame(1, 60), live=True)

        def exchange():
            path.unlink() if data is None else path.write_bytes(data)
            stream.reload()

        class Watching(Counted):
            def event(self, event):
                super().event(event)
                camera.go_on()

        with Scorer(path, threads=1) as scorer:
            stream = Stream(scorer, camera, [sink := Watching({1: exchange})], threshold)
            camera.go_on()
            stream.run()
            assert scorer.score(frame(0, 9).pixels[None]).tolist() == [9]  # it stays open
        assert [scored.frame.id for scored in sink.results] == [0, 1]
        return sink

    return run


def test_a_model_that_is_loaded_again_scores_from_the_next_frame_on(reloading):
    sink = reloading(mean_model(1, threshold=50.0, last="Sqrt"))
    first, second = sink.results
    assert (first.score, first.threshold, first.verdict) == (60, 100, "normal")
    assert second.score == pytest.approx(60**0.5)
    assert second.threshold == 50
    assert first.model != second.model
    (event,) = sink.events
    assert event.kind == "model"
    assert first.model in event.detail
    assert second.model in event.detail


def test_a_threshold_that_was_given_stays_when_the_model_is_loaded_again(reloading):
    sink = reloading(mean_model(1, threshold=50.0), threshold=70.0)
    assert [scored.threshold for scored in sink.results] == [70, 70]
    assert sink.results[0].model == sink.results[1].model  # a threshold is no other graph


def padding_model():
    """A model whose frames keep their aspect ratio."""
    file = modelfile.check(mean_model(1))
    return modelfile.with_contract(file.data, replace(file.contract, resize="pad"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (mean_model(1)[:-30], "is refused"),
        (b"", "is refused"),
        (None, "there is no model file"),
        (mean_model(3), "the new one has channels = 3, and this one 1"),
        (mean_model(1, region=Region(0, 0, 2, 2)), "the new one has region = Region("),
        (padding_model(), "the new one takes frames that are shrunk otherwise"),
    ],
)
def test_a_model_that_is_refused_leaves_the_one_that_runs(reloading, data, says):
    sink = reloading(data)
    assert [(scored.score, scored.threshold) for scored in sink.results] == [(60, 100)] * 2
    assert sink.results[0].model == sink.results[1].model
    (event,) = sink.events
    assert event.kind == "model"
    assert event.detail.startswith("the model stays as it is: ")
    assert says in event.detail


def test_frames_of_a_batch_behind_a_new_model_are_scored_by_it(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mean_model(1))
    with Scorer(path, threads=1) as scorer:
        stream = Stream(scorer, Listed(), max_latency=1.0)
        path.write_bytes(mean_model(1, threshold=50.0, last="Sqrt"))
        new, intake = scorer.again(), Intake(1.0)
        camera, models = intake.lane(live=False), intake.lane(live=False)
        intake.put(camera, 0, frame(0, 60))
        intake.put(models, NOWHERE, new)
        intake.put(camera, 0, frame(1, 60))
        intake.end(camera)
        intake.end(models)

        items = intake.take()
        first, event, second = stream._results(items)

    assert [item.what for item in items][1] is new  # between two frames of one batch
    assert (first.score, first.threshold, first.model) == (60, 100, scorer.model)
    assert event.kind == "model"
    assert second.score == pytest.approx(60**0.5)
    assert (second.threshold, second.model) == (50, new.model)


def test_no_frame_of_a_file_is_lost_while_models_change(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mean_model(1))
    items = [frame(number, number % 200, (500, 600, 1)) for number in range(300)]
    with Scorer(path, threads=1) as scorer:
        calls = dict.fromkeys(range(10, 300, 20), lambda: stream.reload())
        stream = Stream(scorer, Listed(*items), [counted := Counted(calls)])
        stream.run()
    assert [(s.frame.id, s.score) for s in counted.results] == [(n, n % 200) for n in range(300)]
    assert {event.kind for event in counted.events} <= {"model"}


def test_a_scorer_that_was_opened_by_no_path_cannot_be_loaded_again():
    scorer = Scorer(modelfile.check(mean_model(1)), threads=1)
    with pytest.raises(UsageError, match="opened by no path"):
        scorer.again()


def test_a_model_for_which_memory_is_short_is_refused_and_the_next_one_is_loaded():
    loaded = Scorer(modelfile.check(mean_model(1)), threads=1)
    outcomes = iter([MemoryError(), loaded])

    def load():
        outcome = next(outcomes)
        if isinstance(outcome, MemoryError):
            raise outcome
        return outcome

    intake, reloader = Intake(0.0), Reloader(load)
    waiting = intake.lane(live=True)  # of a source that goes on
    with reloader.running(intake):
        reloader.ask()
        (refused,) = intake.take()
        reloader.ask()
        (changed,) = intake.take()
        intake.end(waiting)
    assert refused.what.detail == "the model stays as it is: MemoryError"
    assert changed.what is loaded
