"""A runtime log is sent once per boot: later requests send what is new, and nothing that was found is forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.agent.host import Host
from watchword.agent.transport import ask
from watchword.agent.unseal import prepare_request
from watchword.authority.store import StackState
from watchword.errors import Rejected
from watchword.testing.farm import have_swtpm
from watchword.testing.world import TestHost, World, stack_from_recording
from watchword.wire.evidence import Evidence
from watchword.wire.ima_log import ImaLog
from watchword.wire.messages import Release, ReleaseRequest
from watchword.wire.token import token_id

pytestmark = pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    with World(boots) as made:
        yield made


def evidence(host: TestHost) -> Evidence:
    """What the host would send next."""
    token = host.world.token().text
    request, _, _ = host.use(lambda h: prepare_request(h, host.host_id, token, "vm"))
    assert isinstance(request, ReleaseRequest)
    return request.evidence


def log_of(host: TestHost) -> ImaLog:
    return ImaLog.parse(host.machine.ima_log_path.read_bytes())


def test_the_second_launch_sends_nothing_twice(world: World) -> None:
    host = world.host()
    entries = len(log_of(host).entries)
    assert evidence(host).ima_from == 0
    host.obtain(world.token())
    following = evidence(host)
    assert (following.ima_from, following.ima_log) == (entries, b"")
    token = world.token()
    assert host.obtain(token).secret == token.body.secret


def test_new_entries_continue_the_log(world: World) -> None:
    host = world.host()
    host.obtain(world.token())
    listed = next(file for file in log_of(host).entries if file.number == 1).file()
    host.machine.run_file(listed.path, b"another content")
    assert len(ImaLog.parse_part(evidence(host).ima_log, 20).entries) == 1
    with pytest.raises(Rejected) as caught:
        host.obtain(world.token())
    assert (caught.value.clause, caught.value.code) == ("D5", "runtime-file")


def test_a_bad_file_is_not_forgotten_when_it_is_not_sent_again(world: World) -> None:
    host = world.host()
    host.obtain(world.token())
    host.machine.run_file(b"/tmp/evil", b"evil")
    for _ in range(3):
        with pytest.raises(Rejected) as caught:
            host.obtain(world.token())
        assert (caught.value.clause, caught.value.code) == ("D5", "runtime-file")
    assert evidence(host).ima_log == b""  # the entry was judged again from what is on file


def test_another_boot_sends_its_whole_log(world: World) -> None:
    host = world.host()
    host.obtain(world.token())
    host.machine.reboot()
    assert evidence(host).ima_from == 0
    token = world.token()
    assert host.obtain(token).secret == token.body.secret


def test_another_stack_needs_the_whole_log(world: World, boots: Path) -> None:
    host = world.host()
    host.obtain(world.token())
    world.add_stack(stack_from_recording(boots / "good", version="2", serial=2))
    assert evidence(host).ima_from > 0
    world.set_stack_state(world.stack, StackState.REVOKED)
    assert evidence(host).ima_from == 0
    token = world.token()
    assert host.obtain(token).secret == token.body.secret


def test_a_part_is_judged_by_the_stack_that_saw_the_rest(world: World, boots: Path) -> None:
    """A host that sends a part although its stack was withdrawn in between is refused, not believed."""
    host = world.host()
    host.obtain(world.token())
    world.add_stack(stack_from_recording(boots / "good", version="2", serial=2))
    token = world.token()
    request, reply_key, _ = host.use(lambda h: prepare_request(h, host.host_id, token.text, "vm"))
    world.set_stack_state(world.stack, StackState.REVOKED)
    with pytest.raises(Rejected) as caught:
        host.use(lambda h: _send(h, request, reply_key))
    assert caught.value.code == "runtime-log-part"


def test_a_part_that_continues_nothing_is_refused(world: World) -> None:
    """The attack: leave out the beginning, where the bad file is, and claim that it was seen before."""
    host = world.host(enrolled=True)
    host.machine.run_file(b"/tmp/evil", b"evil")
    host.machine.run_file(b"/tmp/evil2", b"evil")
    token = world.token()
    request, reply_key, _ = host.use(lambda h: prepare_request(h, host.host_id, token.text, "vm"))
    whole = request.evidence
    raws = ImaLog.parse(whole.ima_log).columns.raws
    cut = dataclasses.replace(whole, ima_from=len(raws) - 1, ima_log=raws[-1])
    with pytest.raises(Rejected) as caught:
        host.use(lambda h: _send(h, ReleaseRequest(cut), reply_key))
    assert (caught.value.clause, caught.value.code) == ("D6", "runtime-log-part")
    assert world.store.releases(token_id(token.text)) == 0
    assert [decision.outcome for decision in world.decisions(token)] == ["refused"]


def _send(host: Host, request: ReleaseRequest, reply_key: bytes) -> Release:
    return ask(host.exchange, host.keys, request, Release, reply_key)
