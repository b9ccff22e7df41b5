#!/usr/bin/python3
"""Stands for a command inside of the virtual machine of ``machine.py``.

python inside.py FOLDER COMMAND [ARGUMENT...]

The machine looks into the folder for commands. What one prints comes out of the standard error
output here, signals are handed to it, and its exit code is this one's.
"""

import shlex
import signal
import sys
import time
import uuid
from pathlib import Path

_LOOK_S = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def hand_over(folder: Path, command: str) -> Path:
    """Lay a command into the folder: the path that its files begin with."""
    place = folder / uuid.uuid4().hex
    place.with_suffix(".new").write_text(command)
    place.with_suffix(".new").rename(place.with_suffix(".command"))
    return place


def main() -> None:
    """Hand the command over, and go along with it to its end."""
    folder, command = Path(sys.argv[1]), shlex.join(sys.argv[2:])
    place = hand_over(folder, f"cd {shlex.quote(str(Path.cwd()))} && exec {command}\n")
    said, code, pid = (place.with_suffix(f".{name}") for name in ("said", "code", "pid"))

    def tell(number: int, _: object) -> None:
        hand_over(folder, f"kill -{number} $(cat {shlex.quote(str(pid))})\n")

    for number in _SIGNALS:
        signal.signal(number, tell)
    while not said.exists():
        time.sleep(_LOOK_S)
    with said.open("rb") as words:
        over = False
        while not over:
            over = code.exists()
            sys.stderr.buffer.write(words.read())
            sys.stderr.buffer.flush()
            time.sleep(0 if over else _LOOK_S)
    sys.exit(int(code.read_text()))


if __name__ == "__main__":
    main()
