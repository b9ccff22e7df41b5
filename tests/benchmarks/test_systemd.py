"""What the benchmark of systemd changes of the unit; the run itself takes a quarter of an hour."""

import re
import subprocess

from adae_edge.benchmarks import systemd
from tests.support.checkout import ROOT
from tests.support.peers import peer

# Where Python, the credential and the output are; everything else has to be the unit's.
CHANGED = {"ExecStart", "ProtectHome", "TemporaryFileSystem", "BindReadOnlyPaths"}
CHANGED |= {"LoadCredential", "StandardOutput", "StandardError"}


def test_the_drop_in_shows_the_service_its_files_and_systemd_takes_it(tmp_path):
    systemd._write_files(tmp_path)
    text = (tmp_path / "drop-in.conf").read_text()
    assert set(re.findall(r"^(\w+)=", text, re.MULTILINE)) <= CHANGED
    unit = tmp_path / "adae-edge.service"
    unit.write_text((ROOT / "deploy" / unit.name).read_text())
    unit.with_name(f"{unit.name}.d").mkdir()
    (unit.with_name(f"{unit.name}.d") / "drop-in.conf").write_text(text)
    command = [peer("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, told) == (0, [])
    assert systemd._SECRET not in (tmp_path / "station.toml").read_text() + text
