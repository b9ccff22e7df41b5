"""Command lines that nobody should type: one sentence, the right exit code, nothing destroyed."""

import pytest

from tests.support.models import complaints, mean_model, run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(1))
    (tmp_path / "file").write_text("something")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["score", "m.onnx", ""], 2),
        (["score", "m.onnx", "m.onnx", "--to", "jsonl:m.onnx"], 1),
        (["score", "m.onnx", ".", "--to", "jsonl:a.jsonl", "--to", "jsonl:a.jsonl"], 2),
        (["score", "m.onnx", ".", "--threads", "1000"], 2),
        (["bench", "m.onnx", "--seconds", "0.1", "--batch", "99999999999"], 2),
        (["bench", "m.onnx", "--seconds", "0.1", "--batch", "1", "--json", "."], 2),
        (["train", "digits", "--anomalous", "0", "--side", "0"], 2),
        (["train", "digits", "--anomalous", "0", "--network", ""], 2),
        (["train", "digits", "--anomalous", "0", "--device", "meta"], 2),
        (["demo", "--out", "file"], 1),
    ],
)
def test_one_sentence_and_nothing_destroyed(folder, arguments, code):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert len(complaints(done)) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_out_of_range_is_wrong_use(folder, seed):
    done = run("train", "digits", "--anomalous", "0", "--seed", seed, cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
