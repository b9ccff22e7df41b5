"""The command that receives DICOM and scores it, as a user starts it."""

import json
import subprocess
from contextlib import contextmanager

from adae_edge.benchmarks.peers.processes import free_port
from tests.support.models import BUFFERED, HANGS_S, command, mean_model
from tests.support.peers import peer
from tests.support.receiving import wait_until


class Scoring:
    """A command that receives and scores.

    Attributes:
        process, port: of the command, and where it listens.
    """

    def __init__(self, process, port, folder):
        self.process, self.port, self._folder = process, port, folder

    def rows(self):
        """The rows of frames so far."""
        return [row for row in self._all() if "score" in row]

    def events(self, kind):
        """The sentences of events so far."""
        return [row["detail"] for row in self._all() if row.get("event") == kind]

    def series(self):
        """The sentences of the ends of series so far, behind the UID."""
        return [told.partition(" is ")[2] for told in self.events("series")]

    def files(self, state):
        """The files of a state of the spool."""
        return sorted((self._folder / "spool" / state).iterdir())

    def _all(self):
        rows = self._folder / "rows.jsonl"
        if not rows.exists():
            return []
        lines = rows.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def scoring(folder, *options, port=None, model=None, query=""):
    """The command within the block, from when it listens; with a model's bytes, or a mean's."""
    port, pipe = port or free_port(), subprocess.PIPE
    (folder / "model.onnx").write_bytes(mean_model() if model is None else model)
    source = f"dicom-scp://127.0.0.1:{port}/ADAE{query}"
    words = command(
        "score", "model.onnx", source, "--spool", "spool", "--to", "jsonl:rows.jsonl", *options
    )
    one = Scoring(None, port, folder)
    before = len(one.events("live"))  # a killed receiver may still listen for a moment
    with subprocess.Popen(words, cwd=folder, env=BUFFERED, stderr=pipe, text=True) as process:
        one.process = process
        wait_until(lambda: len(one.events("live")) > before)
        try:
            yield one
        finally:
            if process.poll() is None:
                process.terminate()
            _, errors = process.communicate(timeout=HANGS_S)
            process.stderr_text = errors


def store(port, *files):
    """Send files as a modality does."""
    words = [peer("storescu"), "-R", "-aec", "ADAE", "127.0.0.1", port, *files]
    subprocess.run([*map(str, words)], check=True, timeout=HANGS_S)
