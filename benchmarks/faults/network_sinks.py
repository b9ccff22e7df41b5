"""Brokers and webhooks that are away, frozen or wrong, and spools that are full or damaged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Row, Run, Seen, expect, judge
from adae_edge.benchmarks.peers.broker import broker, once, subscriber, wait_until
from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.numbers import write_clip
from adae_edge.benchmarks.peers.webhook import webhook

_FRAMES = range(1, 481)
_BACK_S = 40  # the longest pause between two tries, and some


def _clip(lab: Lab) -> Path:
    return write_clip(lab.folder / "clip.mp4", _FRAMES)


def _arrived(rows: Sequence[Row], run: Run, seen: str) -> Seen:
    """Compare what arrived with what was sent; what came twice with its id counts once."""
    with contextlib.suppress(TimeoutError):  # what does not arrive is counted as lost
        wait_until(lambda: len(_frames(rows)) >= len(_FRAMES), 5)
    frames = _frames(rows)
    again = len(rows) - len(once(rows))
    expect([row["score"] for row in frames] == sorted(row["score"] for row in frames), "disorder")
    expect(len(run.rows()) == len(_FRAMES), f"{len(run.rows())} rows in the file")
    return judge(frames, _FRAMES, f"{seen}; {again} came twice, told by their ids")


def _frames(rows: Sequence[Row]) -> list[Row]:
    return [row for row in once(rows) if "score" in row]


def _told(run: Run, words: str) -> str:
    """Wait for a sentence: the sentence, without the spool's place."""
    run.wait_for(f"word of {words!r}", lambda: words in run.text)
    (line, *_) = [line for _, line in run.said if words in line]
    return line.removeprefix("adae-edge: ").partition("; results wait")[0]


@fault("46", "broker down, and back", fast=True)
def broker_down(lab: Lab) -> Seen:
    """Scoring goes on, and everything arrives afterwards in order."""
    with broker(lab.folder / "broker") as one, subscriber(one.port) as heard:
        sink = f"mqtt://127.0.0.1:{one.port}?spool={lab.folder}"
        with lab.score(_clip(lab), model=lab.slow, sinks=[sink]) as run:
            run.wait_for_rows(5)
            one.stop()
            said = _told(run, "results wait")
            run.wait_for_rows(20)
            one.begin()
            recovered = run.wait_to_say("takes results again", _BACK_S)
            code = run.end(None)
        expect(code == 0, f"exit code {code}: {run.last_words}")
        seen = _arrived(heard.received, run, said)
    seen.recovered_s = recovered
    return seen


@fault("47", "broker frozen, and thawed")
def broker_frozen(lab: Lab) -> Seen:
    """As when it is down: nothing waits for it but rows."""
    with broker(lab.folder / "broker") as one, subscriber(one.port) as heard:
        sink = f"mqtt://127.0.0.1:{one.port}?spool={lab.folder}"
        source = "synthetic://?fps=30&size=64x48"
        with lab.score(source, sinks=[sink]) as run:
            run.wait_for_rows(30)
            one.peer.freeze()
            said = _told(run, "does not answer")
            begun = time.monotonic()
            run.wait_for_rows(90)
            rate = 90 / (time.monotonic() - begun)
            one.peer.thaw()
            recovered = run.wait_to_say("takes results again", _BACK_S)
            code = run.end()
        expect(code == 0, f"exit code {code}: {run.last_words}")
        expect(rate > 25, f"{rate:.1f} frames a second while it was frozen")
        sent = [row["frame"] for row in run.rows()]
        wait_until(lambda: len(heard.frames) >= len(sent))
        arrived = [row["frame"] for row in heard.frames]
        again = len(heard.received) - len(once(heard.received))
    expect(arrived == sorted(arrived), "disorder")
    told = f"{said}; scoring kept its rate; {again} came twice, told by their ids"
    return Seen(told, recovered, len(set(sent) - set(arrived)), len(arrived) - len(set(arrived)), 0)


@fault("48", "broker refuses the password", fast=True)
def password_refused(lab: Lab) -> Seen:
    """It is told without the password, and rows wait for the right one."""
    passwords = lab.folder / "passwords"
    passwords.write_text("")
    lines = ["allow_anonymous false", f"password_file {passwords}"]
    with broker(lab.folder / "broker", lines) as one:
        sink = f"mqtt://me:very-secret@127.0.0.1:{one.port}?spool={lab.folder}"
        with lab.score(_clip(lab), sinks=[sink]) as run:
            code = run.end(None)
    expect("refuses the connection: not authorized" in run.text, run.last_words)
    expect("very-secret" not in run.text + run.rows_file.read_text(), "it shows the password")
    return _waiting(run, code)


def _waiting(run: Run, code: int) -> Seen:
    """Judge a run whose rows all wait in the spool."""
    expect(code == 0, f"exit code {code}: {run.last_words}")
    waiting = run.last_words.split("; ")[-1]
    expect(int(waiting.split()[0]) > len(_FRAMES), waiting)
    said = next(line for _, line in run.said if "; results wait" in line)
    said = said.removeprefix("adae-edge: ").partition("; results wait")[0]
    told = f"{said}; {waiting.split(' for ')[0]}, exit code 0"
    return judge(run.rows(), _FRAMES, told)


def _with_certificate(lab: Lab, days: int, name: str, words: str) -> Seen:
    made, key = certificate(lab.folder, name, days)
    tls = [f"certfile {made}", f"keyfile {key}"]
    with broker(lab.folder / "broker", tls=tls) as one:
        sink = f"mqtts://localhost:{one.port}?ca={made}&spool={lab.folder}"
        with lab.score(_clip(lab), sinks=[sink]) as run:
            code = run.end(None)
    expect(words in run.text, run.last_words)
    return _waiting(run, code)


@fault("49a", "broker's certificate is another server's", fast=True)
def certificate_of_another(lab: Lab) -> Seen:
    """No row and no password goes to it."""
    return _with_certificate(lab, 1, "elsewhere", "Hostname mismatch")


@fault("49b", "broker's certificate has expired")
def certificate_expired(lab: Lab) -> Seen:
    """As with another server's."""
    return _with_certificate(lab, -1, "localhost", "certificate has expired")


def _webhook(lab: Lab, answer: int | str, words: str) -> Seen:
    """Have a webhook answer so for a while, and then well."""
    with webhook() as hook:
        hook.answer = answer
        sink = f"http://127.0.0.1:{hook.port}/rows#spool={lab.folder}"
        with lab.score(_clip(lab), model=lab.slow, sinks=[sink]) as run:
            said = _told(run, words)
            expect(not hook.received, "rows count as taken")
            hook.answer = 200
            hook.ended.set()
            recovered = run.wait_to_say("takes results again", _BACK_S)
            code = run.end(None)
        expect(code == 0, f"exit code {code}: {run.last_words}")
        seen = _arrived(hook.received, run, said)
    seen.recovered_s = recovered
    return seen


@fault("50a", "webhook answers 500", fast=True)
def webhook_fails(lab: Lab) -> Seen:
    """Rows wait until it is well."""
    return _webhook(lab, 500, "answers 500")


@fault("50b", "webhook answers a letter now and then")
def webhook_drips(lab: Lab) -> Seen:
    """It is given up after ten seconds."""
    return _webhook(lab, "slow", "does not answer")


@fault("50c", "webhook never answers")
def webhook_is_silent(lab: Lab) -> Seen:
    """As when it is slow."""
    return _webhook(lab, "never", "does not answer")


@fault("50d", "webhook points elsewhere")
def webhook_redirects(lab: Lab) -> Seen:
    """It is told, and nothing goes elsewhere."""
    return _webhook(lab, 302, "redirects are not followed")


@fault("52a", "spool full: the oldest rows go", fast=True)
def spool_full(lab: Lab) -> Seen:
    """It is told and counted, the exit code tells, and the newest rows wait."""
    sink = f"http://127.0.0.1:9/rows#limit=40kB&spool={lab.folder}"
    with lab.score(_clip(lab), model=lab.slow, sinks=[sink]) as run:
        said = _told(run, "its spool is full")
        code = run.end(None)
    expect(code == 1, f"exit code {code}: {run.last_words}")
    lacks, waiting = run.last_words.split("; ")[-2:]
    kept = int(lacks.split()[-1]) + int(waiting.split()[0])
    expect(kept >= len(_FRAMES), run.last_words)
    told = f"{said.partition(': ')[2]}; {lacks.split()[-1]} lacking, {waiting.split(' for ')[0]}"
    return judge(run.rows(), _FRAMES, f"{told}, exit code 1")


@fault("52b", "spool damaged between two runs", fast=True)
def spool_damaged(lab: Lab) -> Seen:
    """It is put aside and told, and a new one takes the rows."""
    sink = f"http://127.0.0.1:9/rows#spool={lab.folder}"
    clip = _clip(lab)
    with lab.score(clip, sinks=[sink], rows=lab.folder / "first.jsonl") as run:
        run.end(None)
    (spool,) = lab.folder.glob("*.spool")
    content = bytearray(spool.read_bytes())
    content[4096:8192] = bytes(byte ^ 255 for byte in content[4096:8192])
    spool.write_bytes(content)
    with lab.score(clip, model=lab.slow, sinks=[sink]) as run:
        said = _told(run, "put aside as")
        code = run.end(None)
    expect(code in (0, 1), f"exit code {code}: {run.last_words}")
    expect(list(lab.folder.glob("*.damaged-*")), "nothing was put aside")
    return judge(run.rows(), _FRAMES, f"{said.replace(str(lab.folder), 'LAB')}, exit code {code}")
