"""The sink https: and http:, with a real web server."""

import base64

import pytest

from adae_edge.benchmarks.peers.broker import wait_until
from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.benchmarks.peers.webhook import webhook
from adae_edge.errors import UsageError
from adae_edge.runtime.sinks import http
from tests.support.models import HANGS_S
from tests.support.network import frames, quick_sinks, write


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a sink by its URL, and closes it."""
    with quick_sinks(monkeypatch, http, "#", tmp_path) as again:
        yield again


def told_of(sink):
    """Wait for what is told, and return it."""
    told = []
    wait_until(lambda: told.extend(sink.news()) or told)
    return told[0]


def test_rows_are_posted_as_arrays_in_order(opened):
    with webhook() as hook:
        sink = opened(f"http://me:se%40cret@127.0.0.1:{hook.port}/in/rows?line=1")
        write(sink, range(250))
        wait_until(lambda: not sink.waiting)
    assert frames(hook.received) == list(range(250))
    path, headers, _ = hook.posts[0]
    assert path == "/in/rows?line=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"me:se@cret").decode()
    assert max(count for _, _, count in hook.posts) <= 100
    assert sink.name.startswith(f"http://***@127.0.0.1:{hook.port}/in/***#")


def test_a_token_is_a_header_and_shown_nowhere(opened):
    with webhook() as hook:
        sink = opened(f"http://127.0.0.1:{hook.port}/rows#token=abcdefgh")
        write(sink, [1])
        wait_until(lambda: hook.received)
    assert hook.posts[0][1]["Authorization"] == "Bearer abcdefgh"
    assert "abcdefgh" not in sink.name + str(sink._spool.path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/", "/"),
        ("/rows", "/rows"),
        ("/rows?key=tr0ub4dor", "/rows?***"),
        ("/services/T01/B02/tr0ub4dor#full=newest", "/services/***#full=newest"),
        ("/services/${HOOK}", "/services/***"),
    ],
)
def test_a_secret_in_the_path_is_told_nowhere(opened, monkeypatch, url, name):
    monkeypatch.setenv("HOOK", "tr0ub4dor")
    port = free_port()
    sink = opened(f"http://127.0.0.1:{port}{url}")
    write(sink, [1])
    told = []
    wait_until(lambda: told.extend(sink.news()) or told)
    assert sink.name.startswith(f"http://127.0.0.1:{port}{name}")
    assert "tr0ub4dor" not in sink.name + " ".join(told) + str(sink._spool.path)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (500, "answers 500 Internal Server Error"),
        (404, "answers 404 Not Found"),
        (401, "refuses the user, the password or the token: 401"),
        (302, "answers 302 and points to http://127.0.0.1:9/elsewhere: redirects are not followed"),
        ("never", "does not answer"),
        ("slow", "does not answer"),
    ],
)
def test_rows_wait_while_it_does_not_take_them_and_then_all_arrive(
    opened, answer, words, monkeypatch
):
    if words == "does not answer":
        monkeypatch.setattr(http, "_ANSWER_S", 0.5)
    with webhook() as hook:
        hook.answer = answer
        sink = opened(f"http://127.0.0.1:{hook.port}/rows")
        write(sink, range(5))
        assert words in told_of(sink)
        assert sink.waiting == 5
        monkeypatch.setattr(http, "_ANSWER_S", HANGS_S)
        hook.answer = 200
        hook.ended.set()
        wait_until(lambda: not sink.waiting)
    assert frames(hook.received) == list(range(5))


def test_an_answer_whose_headers_are_cut_short_is_none(opened):
    with webhook() as hook:
        hook.answer = "cut"
        sink = opened(f"http://127.0.0.1:{hook.port}/rows")
        write(sink, range(5))
        assert "its answer is cut short" in told_of(sink)
        assert sink.waiting == 5
        hook.answer = 200
        wait_until(lambda: not sink.waiting)
    assert frames(hook.received) == list(range(5))


def test_a_server_that_takes_fewer_rows_gets_fewer(opened):
    with webhook() as hook:
        hook.answer, hook.most_rows = 500, 7
        sink = opened(f"http://127.0.0.1:{hook.port}/rows")
        write(sink, range(60))
        told_of(sink)
        hook.answer = 200
        wait_until(lambda: not sink.waiting)
    assert frames(hook.received) == list(range(60))


def test_a_server_that_is_not_there_and_then_is(opened):
    port = free_port()
    sink = opened(f"http://127.0.0.1:{port}/rows")
    write(sink, range(5))
    told = told_of(sink)
    assert told.startswith(f"cannot reach http://127.0.0.1:{port}: Connection refused; results wai")
    for _ in range(2):  # also one that was begun again
        with webhook(port) as hook:
            write(sink, [5])
            wait_until(lambda: not sink.waiting)
        assert frames(hook.received)[-1] == 5


def test_a_certificate_is_checked(opened, tmp_path, monkeypatch):
    made = certificate(tmp_path)
    with webhook(certificate=made) as hook:
        url = f"https://localhost:{hook.port}/rows"
        sink = opened(url)
        write(sink, range(3))
        assert "has a certificate that is not trusted: self" in told_of(sink)
        sink.close()
        sink = opened(f"{url}#ca={made[0]}")
        wait_until(lambda: not sink.waiting)
    assert frames(hook.received) == [0, 1, 2]
    other = certificate(tmp_path, "elsewhere")
    with webhook(certificate=other) as hook:
        sink = opened(f"https://localhost:{hook.port}/rows#ca={other[0]}")
        write(sink, [0])
        assert "not trusted: Hostname mismatch" in told_of(sink)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/rows", "is not encrypted, and another machine: give https://"),
        ("http://127.0.0.1/rows#ca=x.pem", "is not encrypted, and so has no option ca"),
        ("https://example.org/rows#ca=no.pem", "cannot read certificates from no.pem"),
        ("https://example.org/rows#colour=red", "has the option colour"),
        ("https:///rows", "has no host"),
        ("https:rows", "has no host"),
    ],
)
def test_what_is_refused_before_anything_starts(opened, url, words):
    with pytest.raises(UsageError) as raised:
        opened(url)
    assert words in str(raised.value)


def test_another_machine_without_encryption_where_the_user_says_so(opened):
    opened("http://192.0.2.1:9/rows#insecure=yes")
