"""Sources that are nearly right: the sentence says what may have been meant."""

import pytest

from adae_edge.errors import UsageError
from adae_edge.runtime import sinks, sources
from adae_edge.runtime.schemes import load_scheme, schemes
from adae_edge.runtime.sinks.registry import _NO_SINKS
from adae_edge.runtime.sources.registry import _NO_SOURCES, open_source


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("camera1", "there is no source camera1: a camera is given by its number, as in camera:1"),
        ("/dev/video9", "there is no source /dev/video9: a camera is given by its number, as in "),
        ("sinthetic://", "there is no source sinthetic://: did you mean synthetic: in place of "),
        ("Watch:frames", "did you mean watch: in place of Watch:?"),
        ("ftp://host/clip.mp4", "give a file, a folder or camera:0"),
        ("fram/1.png", "there is no source fram/1.png: give a file, a folder or camera:0"),
        ("", "the source is empty"),
    ],
)
def test_the_sentence_says_what_may_have_been_meant(spec, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        open_source(spec)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("package", "known", "name"),
    [
        (sources, schemes(sources, _NO_SOURCES), "SOURCE"),
        (sinks, schemes(sinks, _NO_SINKS), "SINK"),
    ],
    ids=["sources", "sinks"],
)
def test_a_scheme_is_a_module_with_a_source_or_a_sink(package, known, name):
    assert len(known) > 10
    assert [scheme for scheme in known if not hasattr(load_scheme(package, scheme), name)] == []


def test_a_mistyped_address_does_not_show_its_password():
    with pytest.raises(UsageError) as refused:
        open_source("synthetik://user:secret@host/frames")
    assert "secret" not in str(refused.value)
