"""Values of sources and sinks that stand in variables and in systemd's credentials."""

import json

import pytest
from PIL import Image

from adae_edge import errors
from adae_edge.errors import UsageError, shows_password, without_password
from adae_edge.runtime.sources.address import Address
from adae_edge.secrets import filled_in
from tests.support.models import complaints, mean_model, run


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch):
    monkeypatch.setattr(errors, "_secrets", set())


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """A folder like the one that systemd gives a service."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_a_credential_reaches_a_camera_as_it_is_and_no_message(credentials):
    (credentials / "gate").write_text("p@ss/w%41rd:1\n")
    url = filled_in("rtsp://viewer:${credential:gate}@10.0.0.5/1")
    assert url == "rtsp://viewer:p%40ss%2Fw%2541rd%3A1@10.0.0.5/1"
    assert Address(url).url == url
    assert without_password("it said p@ss/w%41rd:1") == "it said ***"
    assert str(UsageError("no p%40ss%2Fw%2541rd%3A1 here")) == "no *** here"


def test_outside_of_a_url_a_credential_is_not_encoded(credentials):
    (credentials / "pw").write_text("a+b/c")
    pipeline = "gst:rtspsrc location=rtsp://h/1 user-pw=${credential:pw} ! decodebin"
    assert filled_in(pipeline).endswith(" user-pw=a+b/c ! decodebin")


def test_variables_are_put_in_as_they_are_and_hidden_by_their_names(monkeypatch):
    monkeypatch.setenv("CAMERA", "10.0.0.5:554/stream")
    monkeypatch.setenv("API_TOKEN", "abcdef")
    assert filled_in("rtsp://${CAMERA}") == "rtsp://10.0.0.5:554/stream"
    assert without_password("rtsp://10.0.0.5:554/stream") == "rtsp://10.0.0.5:554/stream"
    assert filled_in("https://hooks/${API_TOKEN}/${CAMERA}").startswith("https://hooks/abcdef/10")
    assert without_password("https://hooks/abcdef") == "https://hooks/***"


def test_a_value_is_not_looked_through_again(monkeypatch):
    monkeypatch.setenv("ONE", "${TWO}")
    assert filled_in("a $TWO ${ONE}") == "a $TWO ${TWO}"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("${NOT_SET}", "${NOT_SET} needs the environment variable NOT_SET, which is not set"),
        ("a${credential:no}", "a${credential:no} needs the credential no, which is not in"),
        ("${credential:empty}", "which is empty"),
        ("${credential:two}", "which is not one line of text"),
        ("${credential:bytes}", "which cannot be read in"),
        ("${credential:../secret}", "which is no ${NAME} or ${credential:NAME}"),
        ("${}", "${} has ${}, which is no ${NAME} or ${credential:NAME}"),
        ("rtsp://bob:s3cret@${HOST", "rtsp://***@${HOST has a ${ that is not closed"),
    ],
)
def test_what_cannot_be_filled_in_is_one_sentence(spec, sentence, credentials):
    (credentials / "empty").write_text("\n")
    (credentials / "two").write_text("one\ntwo\n")
    (credentials / "bytes").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError) as refused:
        filled_in(spec)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_folder_of_credentials_the_sentence_says_where_they_come_from(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(UsageError, match="CREDENTIALS_DIRECTORY is not set: see LoadCredential="):
        filled_in("${credential:gate}")


def test_the_command_takes_them_in_sources_and_sinks(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    Image.new("L", (8, 6), 50).save(tmp_path / "a.png")
    call = "score", "m.onnx", "${FRAME}.png", "--to", "jsonl:${ROWS}/rows.jsonl"
    done = run(*call, cwd=tmp_path, FRAME="a", ROWS=str(tmp_path))
    assert (done.returncode, complaints(done)) == (0, [])
    assert json.loads((tmp_path / "rows.jsonl").read_text())["source"] == "a.png"
    twice = run(*call[:3], "a.png", cwd=tmp_path, FRAME="a")
    assert (twice.returncode, complaints(twice)) == (2, ["a source is named twice"])
    (sentence,) = complaints(run(*call, cwd=tmp_path, FRAME="a"))
    assert sentence.endswith("needs the environment variable ROWS, which is not set")


@pytest.mark.parametrize(
    ("name", "shows"),
    [
        ("rtsp://bob:s3cret@host/1", True),
        ("rtsp://bob:pa/ss@host/1", True),
        ("rtsp://bob:a${REST}@host/1", True),
        ("https://host/hook?token=abc", True),
        ("gst:rtspsrc user-pw=abc ! decodebin", True),
        ("gst:rtspsrc user-pw = abc ! decodebin", True),
        ("gst:rtspsrc proxy-pw='abc' ! decodebin", True),
        ("rtsp://bob:s3 cret@host/1", True),
        ("rtsp://:s3cret@host/1", True),
        ("rtsp:/bob:s3cret@host/1", True),
        ("rtsp://bob%3As3cret@host/1", True),
        ("rtsp://bob:${REST}a@host/1", True),
        ("rtsp://host:554/user=admin_password=s3cret_channel=1", True),
        ("http://host/video?loginuse=admin&loginpas=s3cret", True),
        ("https://host/hook#token=${HALF}abc", True),
        ("https://host/hook?a=1&sig=abc", True),
        ("https://host/hook?p%61ssword=abc", True),
        ("https://host/hook?signal=3&a%20b=c", False),
        ('gst:souphttpsrc extra-headers="h,authorization=(string)abc"', False),
        ("rtsp://bob:${PASSWORD}@host/1", False),
        ("rtsp://bob:${credential:gate}@host/1", False),
        ("rtsp://bob@host:554/1", False),
        ("https://host/hook?token=${TOKEN}", False),
        ("gst:rtspsrc user-pw=${credential:gate} ! decodebin", False),
        ("gst:rtspsrc user-pw=${credential:gate} location=rtsp://host/1", False),
        ("rtsp://host/user=admin_password=${credential:gate}", False),
        ("rtsp://${NAME}:${PASSWORD}@host/1", False),
        ("rtsp://host/user=admin_password=&channel=1", False),
        ("gst:rtspsrc location=rtsp://host:554/1 ! textoverlay text=a@b", False),
        ("jsonl:rows@home.jsonl", False),
    ],
)
def test_a_password_in_the_open_is_told_from_one_that_stands_elsewhere(name, shows):
    assert shows_password(name) == shows
    assert "s3" not in without_password(name)
    assert "abc" not in without_password(name)
