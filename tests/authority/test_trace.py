"""One launch under one name, from the token to the receipt, in the logs of both sides."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchword.authority.deciding.launches import Launches
from watchword.authority.telemetry.events import ChallengeEvent, DecisionEvent, Event
from watchword.cli.inspect import describe_token
from watchword.cli.main import run
from watchword.cli.output import report_error
from watchword.errors import Rejected, UsageError, WatchwordError
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World
from watchword.wire.token import token_id
from watchword.wire.trace import exchange_trace, launch_trace, traced


@pytest.fixture
def world(boots: Path, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: launches need real emulated TPMs")
    caplog.set_level(logging.INFO, "watchword.agent")
    with World(boots) as made:
        made.watch()
        yield made


@pytest.fixture
def events(world: World) -> list[Event]:
    found: list[Event] = []
    world.launches = Launches(world.store, lambda: world.keys, lambda: world.now, tell=found.append)
    return found


def steps(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """The agent's lines: what was done, and about what."""
    lines = [record.getMessage() for record in caplog.records if record.name == "watchword.agent"]
    return [(name, json.loads(about)) for name, about in (line.split(" ", 1) for line in lines)]


def test_a_launch_has_one_name_everywhere(
    world: World, events: list[Event], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    host = world.host()
    tokens = [world.token(), world.token()]
    caplog.clear()
    for token in tokens:
        host.obtain(token)
    trace = describe_token(tokens[0].text.encode())["trace"]
    assert (trace, len(trace)) == (token_id(tokens[0].text).hex()[:16], 16)
    mine = [(name, about) for name, about in steps(caplog) if about["trace"] == trace]
    assert [name for name, _ in mine] == ["launch-challenge", "launch-evidence", "launch-released"]
    assert all(about["instance"] == "vm-1" for _, about in mine)
    ours = [event for event in events if isinstance(event, ChallengeEvent | DecisionEvent) and event.trace == trace]
    assert [event.NAME for event in ours] == ["challenge", "decision"]
    assert world.decisions(tokens[0])[0].token.startswith(trace)
    shown = decisions(world, capsys, "--trace", trace)
    assert [row["entry"]["token"] for row in shown] == [token_id(tokens[0].text).hex()]
    assert len(decisions(world, capsys)) > 2
    assert decisions(world, capsys, "--trace", "0" * 16) == []


def decisions(world: World, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["authority", "decisions", *arguments, "--data", str(world.folder), "--json"]) == 0
    return list(json.loads(capsys.readouterr().out)["decisions"])


def test_a_refusal_says_its_name_to_the_host_and_to_the_tenant(
    world: World, events: list[Event], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    host, token = world.host("kernel"), world.token()
    caplog.clear()
    with pytest.raises(Rejected) as caught:
        host.obtain(token)
    trace = launch_trace(token.text)
    assert caught.value.trace == trace
    name, about = steps(caplog)[-1]
    assert (name, about) == ("launch-refused", {"trace": trace, "instance": "vm-1", "code": "stack-none"})
    report_error(caught.value, as_json=True)
    said = capsys.readouterr()
    assert f"watchword: trace: {trace}\n" in said.err
    assert json.loads(said.out)["error"]["trace"] == trace
    assert [event.trace for event in events if isinstance(event, DecisionEvent)] == [trace]


def test_attestations_and_enrolments_have_a_name_each(
    world: World, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    host = world.host()
    host.attest()
    host.attest()
    told = {event.trace: event.NAME for event in events if event.NAME in ("attestation", "enrolment")}  # type: ignore[attr-defined]
    found = {about["trace"]: name.split("-")[0] for name, about in steps(caplog)}
    assert sorted(found.values()) == ["attest", "attest", "enrol"]
    assert {trace: {"attestation": "attest", "enrolment": "enrol"}[name] for trace, name in told.items()} == found


def test_names_of_exchanges_are_a_hash_of_the_nonce() -> None:
    assert exchange_trace(b"nonce") == hashlib.sha256(b"watchword/trace/1\0nonce").hexdigest()[:16]


def test_an_error_keeps_the_name_that_it_has() -> None:
    with pytest.raises(UsageError) as caught, traced("outer"), traced("inner"):
        raise UsageError("usage", "no")
    assert caught.value.trace == "inner"
    assert WatchwordError("usage", "no").trace == ""


def test_nothing_that_the_agent_says_is_secret(
    world: World, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    host, token = world.host(), world.token()
    host.obtain(token)
    host.attest()
    said = "\n".join(f"{name} {about}" for name, about in steps(caplog))
    assert said
    for secret in (token.text, token.body.secret.hex(), token.body.launch_id.hex(), host.host_id.hex()):
        assert secret not in said


@pytest.mark.parametrize("text", ["", "xyz", "1ef7e3104c2c392", "1EF7E3104C2C3927"])
def test_a_trace_id_is_hex_digits(command: Any, text: str) -> None:
    status, document = command("decisions", "--trace", text)
    assert (status, document["error"]["code"]) == (1, "bad-trace")
