"""A virtual machine with a camera that can be unplugged, and with a clock that can be set.

QEMU emulates the machine, so that no privilege is needed. The camera is the kernel's own test
driver, vivid. The machine has this one's files, read only, and so the same programs and packages.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adae_edge.benchmarks.peers.processes import KERNEL, MissingPeer, Peer, peer, program

_MODULES = Path("/lib/modules")
_BOOTS_S = 600  # some 15 on a machine that has nothing else to do
# The first process of the machine: it mounts all files, and then starts the commands that it finds.
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
PATH=/bin
mount -t proc none /proc
for module in /modules/*; do insmod $module $(cat /options/${module#*-} 2>/dev/null); done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /all
mount -t devtmpfs none /all/dev
mount -t proc none /all/proc
mount -t sysfs none /all/sys
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 shared /all{folder}
export HOME={commands} PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
cd /all{commands}
touch ready
while sleep 0.1; do
    for found in *.command; do
        [ -e "$found" ] || continue
        name=${found%.command}
        mv $found $name.sh
        (
            setsid chroot /all /bin/sh {commands}/$name.sh > $name.said 2>&1 &
            echo $! > $name.pid
            wait $!
            echo $? > $name.code.new
            mv $name.code.new $name.code
        ) &
    done
done
"""


@dataclass(frozen=True)
class Machine:
    """A running machine.

    Attributes:
        before: what starts a command in it, in place of here: its words come out of the standard
            error output, signals reach it, and the exit code is its own.
    """

    before: tuple[object, ...]

    def run(self, command: str) -> str:
        """Run a command of the shell as root, and wait for it: what it printed.

        Raises:
            RuntimeError: its exit code is not zero.
            subprocess.TimeoutExpired: it hangs.
        """
        arguments = [*map(str, self.before), "/bin/sh", "-c", command]
        done = subprocess.run(  # noqa: S603
            arguments, capture_output=True, text=True, timeout=_BOOTS_S
        )
        if done.returncode:
            raise RuntimeError(f"{command!r} failed in the machine: {done.stderr}")
        return done.stderr


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine within the block, once it has booted. Its camera is /dev/video0.

    Args:
        folder: which it may write into, under the same path; it exists.

    Raises:
        MissingPeer: a package is missing.
        RuntimeError: it does not boot.
    """
    for name in ("qemu-system-x86_64", "busybox", "cpio", "v4l2-ctl"):
        program(name)
    kernel, modules = _kernel()
    commands = folder / "commands"
    commands.mkdir()
    initrd = _initrd(folder, commands, modules)
    console = folder / "console.txt"
    with peer(_command(kernel, initrd, console, folder)) as emulator:
        _wait_until_ready(emulator, commands / "ready", console)
        yield Machine((sys.executable, Path(__file__).with_name("inside.py"), commands))


def _kernel() -> tuple[Path, list[Path]]:
    """The newest kernel that has the driver, and the modules that are loaded, in order."""
    for dependencies in sorted(_MODULES.glob("*/modules.dep"), reverse=True):
        version = dependencies.parent.name
        image = Path(f"/boot/vmlinuz-{version}")
        lines = [line.split(":") for line in dependencies.read_text().splitlines()]
        needs = {Path(name).name.split(".")[0]: (name, rest.split()) for name, rest in lines}
        if image.exists() and "vivid" in needs:
            names: list[str] = []
            for module in ("virtio_pci", "9p", "9pnet_virtio", "vivid"):
                name, others = needs[module]
                names += [*reversed(others), name]
            return image, [dependencies.parent / name for name in dict.fromkeys(names)]
    raise MissingPeer(f"there is no kernel for a virtual machine: apt-get install {KERNEL}")


def _initrd(folder: Path, commands: Path, modules: list[Path]) -> Path:
    """Write the first file system: busybox, modules and what is done first."""
    root = folder / "initrd"
    for name in ("bin", "modules", "options", "proc", "all"):
        (root / name).mkdir(parents=True)
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    for place, module in enumerate(modules):
        shutil.copy(module, root / "modules" / f"{place:02}-{module.name}")
    (root / "options" / "vivid.ko").write_text("node_types=0x1\n")  # a camera, and no radio
    init = _INIT.replace("{folder}", shlex.quote(str(folder)))
    init = init.replace("{commands}", shlex.quote(str(commands)))
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(  # noqa: S603
        [program("cpio"), "-o", "-H", "newc", "--quiet"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    initrd = folder / "initrd.cpio"
    initrd.write_bytes(archive.stdout)
    shutil.rmtree(root)
    return initrd


def _command(kernel: Path, initrd: Path, console: Path, folder: Path) -> list[object]:
    """What starts the emulator."""
    command: list[object] = [program("qemu-system-x86_64"), "-accel", "tcg", "-cpu", "max"]
    command += ["-m", 1024, "-smp", 2, "-nodefaults", "-no-user-config", "-no-reboot"]
    command += ["-display", "none", "-serial", f"file:{console}"]
    words = "console=ttyS0 quiet panic=-1 no_timer_check"  # a busy host's timer seems to stand
    command += ["-kernel", kernel, "-initrd", initrd, "-append", words]
    shares = {"root": "path=/,readonly=on,multidevs=remap", "shared": f"path={folder}"}
    for name, how in shares.items():
        command += ["-fsdev", f"local,id={name},security_model=none,{how}"]
        command += ["-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
    return command


def _wait_until_ready(emulator: Peer, ready: Path, console: Path) -> None:
    deadline = time.monotonic() + _BOOTS_S
    while not ready.exists():
        if emulator.process.poll() is not None or time.monotonic() > deadline:
            said = console.read_text(errors="replace") if console.exists() else "nothing"
            raise RuntimeError(f"the virtual machine does not boot; it said {said[-500:]}")
        time.sleep(0.1)
