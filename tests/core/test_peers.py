"""The programs of others that the tests compare with come from one list of packages."""

import pytest

from adae_edge.benchmarks.peers import processes
from tests.support import peers
from tests.support.checkout import ROOT


def test_every_program_s_package_is_in_the_list_that_ci_installs():
    listed = (ROOT / ".ci" / "debian-packages.txt").read_text().splitlines()

    needed = {*peers.PACKAGES.values(), *processes.PACKAGES.values(), *processes.RTSP_SERVER}
    needed |= {processes.ARAVIS, processes.KERNEL}
    assert needed == {line for line in listed if not line.startswith("#")}


def test_a_missing_program_is_skipped_by_its_package_s_name_and_fails_in_ci(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install libjpeg-turbo-progs"):
        peers.peer("djpeg")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install libjpeg-turbo-progs"):
        peers.peer("djpeg")
