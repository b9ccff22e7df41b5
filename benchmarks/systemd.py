"""The service under systemd itself: start, reload, a hang, stop and a credential.

python -m adae_edge.benchmarks.systemd --json FILE

systemd runs deploy/adae-edge.service in a virtual machine, as process 1 of a namespace there. What
is changed of the unit is where Python and the credential lie, and how long a hang lasts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

import adae_edge
from adae_edge.benchmarks import record
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.machine import Machine, machine

_CHECKOUT = Path(adae_edge.__file__).parents[1]
_SECRET = "mellon-4711"  # noqa: S105
_STATE, _PIPE = "/var/lib/private/adae-edge", "/run/pipe"
_STATION = f"""
[[stream]]
model = "numbers.onnx"
source = ["watch:incoming"]
to = ["jsonl:rows.jsonl"]
resume = true
threads = 1

[[stream]]
model = "numbers.onnx"
source = ["synthetic://?fps=20&size=64x48"]
to = ["jsonl:{_PIPE}", "csv:${{credential:gate}}.csv"]
threads = 1
"""
# What systemd finds beside the service: the units that it needs, without any of the machine's.
_TARGETS = "sysinit basic shutdown network-online time-sync multi-user"
_BOOT = """set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
mkdir -p /run/systemd/system/adae-edge.service.d {state}/incoming
chmod 700 /var/lib/private
n=0
for place in {places}; do
    mkdir -p /run/places/$n
    mount --bind $place /run/places/$n
    n=$((n + 1))
done
cd /run/systemd/system
for target in {targets}; do printf '[Unit]\\nDefaultDependencies=no\\n' > $target.target; done
cp {unit} adae-edge.service
cp {folder}/drop-in.conf adae-edge.service.d/drop-in.conf
cp {folder}/numbers.onnx {state}
cp {folder}/station.toml {folder}/gate /run
chmod 600 /run/gate
mkfifo -m 666 {pipe}
setsid unshare --pid --mount --cgroup --fork sh -c 'mount -t proc proc /proc
mount -t tmpfs tmpfs /tmp
mount --make-rshared /
exec env container=other SYSTEMD_UNIT_PATH=/run/systemd/system \
    /lib/systemd/systemd --unit=multi-user.target --log-target=kmsg' < /dev/null > /dev/null 2>&1 &
until cat /proc/$!/task/$!/children 2>/dev/null | grep . > /run/pid; do sleep 1; done
until [ -S /run/systemd/private ]; do sleep 1; done
"""
_LONGEST_S = 600
# Which folders the unit or the drop-in replaces, and the one that it leaves.
_SHOWN = {"/root", "/home", "/tmp", "/usr"}  # noqa: S108


@dataclass
class _Service:
    """The service in the machine, and what was seen of it.

    Attributes:
        guest: the machine.
        steps: what was done, each with the seconds that it took and what systemd said then.
    """

    guest: Machine
    steps: list[dict[str, Any]] = field(default_factory=list)

    def run(self, command: str) -> str:
        """Run a command of the shell in the machine: what it printed."""
        return self.guest.run(command).strip()

    def systemctl(self, arguments: str) -> str:
        """Have systemctl say or do something beside systemd: what it printed."""
        return self.run(f"nsenter -t $(cat /run/pid) -m -p -C -r systemctl {arguments}")

    def show(self) -> dict[str, str]:
        """What systemd says of it."""
        names = "ActiveState,SubState,StatusText,Result,NRestarts,MainPID,ExecMainStatus"
        lines = self.systemctl(f"show adae-edge -p {names}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def step(self, name: str, arguments: str, over: Callable[[dict[str, str]], bool]) -> None:
        """Have systemctl do something, and wait until the service is as it should be.

        Raises:
            RuntimeError: it is not.
        """
        begun = time.monotonic()
        self.systemctl(arguments)
        while not over(said := self.show()):
            if time.monotonic() - begun > _LONGEST_S:
                words = self.run("tail -n 5 /run/said.txt; dmesg | tail -n 5")
                raise RuntimeError(f"{name}: {said}; {words}")
            time.sleep(2)
        said.pop("MainPID")
        self.steps.append({"step": name, "seconds": round(time.monotonic() - begun, 1), **said})

    def rows(self) -> list[int]:
        """The numbers of the pictures that have a row, in order."""
        text = self.run(f"cat {_STATE}/rows.jsonl")
        rows = [json.loads(line) for line in text.splitlines()]
        return [int(row["score"]) for row in rows if "score" in row]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Run the service under systemd, have it hang, and tell what systemd did."""
    with tempfile.TemporaryDirectory(prefix="systemd-", ignore_cleanup_errors=True) as folder:
        figures = under_systemd(Path(folder))
    record.finish(json_file, **figures)


def under_systemd(folder: Path) -> dict[str, Any]:
    """Start, reload, hang and stop the service: what systemd said, and which rows there are.

    Args:
        folder: empty, for what the machine reads.

    Raises:
        MissingPeer: a package is missing.
        RuntimeError: something did not become of it.
    """
    _write_files(folder)
    with machine(folder) as guest:
        # systemd with the unit, and a reader
        service = _Service(guest)
        unit = _CHECKOUT / "deploy" / "adae-edge.service"
        names = {"unit": unit, "folder": folder, "targets": _TARGETS}
        names["places"] = shlex.join(_places())
        service.run(_BOOT.format(state=_STATE, pipe=_PIPE, **names))
        reader = f"(setsid sh -c 'echo $$ > /run/reader; exec cat {_PIPE}' > /dev/null 2>&1 &)"
        service.run(reader)

        # start, and what is shown then
        service.step("start", "start --no-block adae-edge", _is_running)
        first = service.show()["MainPID"]
        service.run(f"cp {folder}/first/* {_STATE}/incoming")
        service.step("pictures", "show", lambda said: len(service.rows()) >= 5)
        process = "/proc/$(head -n 1 /sys/fs/cgroup/system.slice/adae-edge.service/cgroup.procs)"
        shown = service.run(f"cat {process}/environ {process}/cmdline /run/said.txt")
        shown += service.systemctl("show adae-edge")
        files = service.run(f"ls {_STATE}")

        # reload, and a reader that stops reading
        service.step("reload", "reload --no-block adae-edge", _is_running)
        service.run("kill -STOP $(cat /run/reader)")
        service.step("hang", "show", _was_restarted)

        # systemd starts it again, and stops it
        service.run("kill -CONT $(cat /run/reader)")
        service.run(reader)
        service.step("start again", "show", _is_running)
        second = service.show()["MainPID"]
        service.run(f"cp {folder}/second/* {_STATE}/incoming")
        service.step("more pictures", "show", lambda said: len(service.rows()) >= 10)
        service.step("stop", "stop --no-block adae-edge", _has_stopped)
        return {
            "steps": service.steps,
            "another_process": first != second,
            "rows": service.rows(),
            "credential_reached_it": f"{_SECRET}.csv" in files,
            "credential_is_shown": _SECRET in shown,
            "said": service.run("cat /run/said.txt").splitlines(),
            "systemd_said": re.findall(r"adae-edge.service: (.*)", service.run("dmesg")),
        }


def _is_running(said: dict[str, str]) -> bool:
    return (said["ActiveState"], said["SubState"]) == ("active", "running")


def _was_restarted(said: dict[str, str]) -> bool:
    return said["NRestarts"] == "1"


def _has_stopped(said: dict[str, str]) -> bool:
    return said["ActiveState"] in ("inactive", "failed")


def _write_files(folder: Path) -> None:
    """Write what the machine copies: model, station, credential, pictures, and the drop-in."""
    (folder / "numbers.onnx").write_bytes(numbers.model())
    (folder / "station.toml").write_text(_STATION)
    (folder / "gate").write_text(_SECRET)
    for part, begin in (("first", 0), ("second", 5)):
        (folder / part).mkdir()
        for number in range(begin, begin + 5):
            picture = Image.fromarray(np.asarray(numbers.picture(number, 64, 48)))
            picture.save(folder / part / f"{number}.png")
    command = [sys.executable, "-m", "adae_edge", "run", "/run/station.toml"]
    tops = {f"/{Path(place).parts[1]}" for place in _places()} - _SHOWN
    lines = [
        "[Service]",
        "ExecStart=",
        f"ExecStart={shlex.join(command)}",
        "ProtectHome=tmpfs",
        *(f"TemporaryFileSystem={top}:ro" for top in sorted(tops)),
        *(f"BindReadOnlyPaths=/run/places/{n}:{place}" for n, place in enumerate(_places())),
        "LoadCredential=",
        "LoadCredential=gate:/run/gate",
        "StandardOutput=null",
        "StandardError=append:/run/said.txt",
    ]
    (folder / "drop-in.conf").write_text("\n".join([*lines, ""]))


def _places() -> list[str]:
    """Python, its packages and this checkout, which are where the unit hides them."""
    places = {sys.base_prefix, sys.prefix, str(_CHECKOUT), *filter(os.path.isdir, sys.path)}

    def is_within(place: str) -> bool:
        return any(place != other and Path(place).is_relative_to(other) for other in places)

    return sorted(place for place in places if not is_within(place))


if __name__ == "__main__":
    typer.run(main)
