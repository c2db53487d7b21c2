"""Known-bad components (E3): a release in force names an event, a file or a stack, and no host may show it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from watchword.errors import MalformedError
from watchword.policy.explain_rejection import place_of
from watchword.policy.known_bad import NOTHING_BAD
from watchword.policy.release import StackRelease, known_bad
from watchword.policy.runtime import bad_files, judge_runtime
from watchword.policy.stack import CompiledStack
from watchword.policy.teach import teach
from watchword.testing.documents import STACK, changed, encode
from watchword.verify.host import VerifiedHost
from watchword.verify.known_files import KnownFiles
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.ima_log import ImaLog
from watchword.wire.tpm.algorithms import Alg

from .test_appraise import NOW, judge, profile, refused, release

Host = Callable[..., VerifiedHost]
Stack = Callable[..., dict[str, Any]]


def naming(what: str, digest: str, **more: Any) -> dict[str, Any]:
    """The document of a release that fits no host and names one bad component."""
    entry = {"what": what, "digest": digest, "reason": "has a hole"}
    return {**STACK, "serial": 9, "known_bad": [entry], **more}


def an_event(document: dict[str, Any]) -> str:
    return "sha256:" + document["components"][2]["variants"][0]["events"][0]["digests"]["sha256"]


def a_file(document: dict[str, Any]) -> str:
    return str(next(iter(document["runtime"]["files"].values()))[0])


def a_stack(document: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(encode(document)).hexdigest()


KINDS = [("event", an_event), ("file", a_file), ("stack", a_stack)]


@pytest.mark.parametrize(("what", "digest_of"), KINDS)
@pytest.mark.parametrize("runtime", ["listed", "ignored"])
def test_a_known_bad_component(
    host: Host, stack: Stack, what: str, digest_of: Callable[[dict[str, Any]], str], runtime: str
) -> None:
    document, wanted = stack("good"), profile(runtime=runtime)
    digest = digest_of(document)
    refused(judge(host("good"), wanted, release(document), release(naming(what, digest))), "E3", "known-bad")
    other = "sha256:" + "00" * 32
    assert judge(host("good"), wanted, release(document), release(naming(what, other))).rank == 1


@pytest.mark.parametrize(("what", "digest_of"), KINDS)
def test_it_counts_while_the_release_is_in_force(
    host: Host, stack: Stack, what: str, digest_of: Callable[[dict[str, Any]], str]
) -> None:
    document = stack("good")
    named = naming(what, digest_of(document))
    for state, end, good in (
        ("draft", None, True),
        ("active", None, False),
        ("retiring", NOW + 1, False),
        ("retiring", NOW, True),
        ("revoked", None, True),
    ):
        found = judge(host("good"), profile(), release(document), release(named, state=state, retire_at=end))
        assert (found.rank == 1) is good, state


def test_a_bad_stack_counts_whatever_else_matches(host: Host, stack: Stack) -> None:
    bad, twin = stack("good"), {**stack("good"), "version": "twin", "serial": 2}
    named = release(naming("stack", a_stack(bad)))
    refused(judge(host("good"), profile(), release(bad), release(twin), named), "E3", "known-bad")
    assert judge(host("good"), profile(), release(twin), named).rank == 1


def test_where_a_bad_event_is(host: Host, stack: Stack) -> None:
    document = stack("good")
    found = judge(host("good"), profile(), release(document), release(naming("event", an_event(document))))
    place = place_of(next(f for f in found.findings if f.code == "known-bad"))
    logged = host("good").boot.events
    (event,) = [e for e in logged if e.index == place.event]
    assert (place.pcr, place.type, place.position) == (event.pcr, event.type_name, None)
    assert naming("event", f"sha256:{event.digest.hex()}") == naming("event", an_event(document))


def test_a_bad_file_at_any_path_is_named(host: Host, stack: Stack) -> None:
    document = stack("good")
    path = next(iter(document["runtime"]["files"]))
    found = judge(host("good"), profile(), release(document), release(naming("file", a_file(document))))
    finding = next(f for f in found.findings if f.code == "known-bad")
    assert finding.subject == f"file {path}"
    assert "has a hole" in finding.message


def test_nothing_named_costs_nothing() -> None:
    stack = CompiledStack.parse(encode(STACK))
    assert known_bad([StackRelease(stack, stack.digest, frozenset())], NOW) is NOTHING_BAD
    assert NOTHING_BAD.judge_id(stack.digest) == stack.digest


# what is remembered of a log


def bad_file(document: dict[str, Any]) -> Any:
    return known_bad([release(naming("file", a_file(document)))], NOW)


def test_what_was_judged_before_a_file_was_bad_is_judged_again(host: Host, stack: Stack) -> None:
    document = stack("good")
    known, bad = release(document), bad_file(document)
    before = judge_runtime(host("good").runtime, known.stack)
    after = judge_runtime(host("good").runtime, known.stack, bad)
    assert before.bad == ()
    assert [f.code for f in after.bad] == ["known-bad"]
    assert before.state is not None
    assert after.state is not None
    assert before.state.stack != after.state.stack
    assert any(a_file(document)[7:] in raw.hex() for _, raw in after.state.kept), "a bad file is kept, and told again"


def test_a_part_does_not_hide_a_bad_file(boots: Any, stack: Stack) -> None:
    document = stack("good")
    known, bad = release(document), bad_file(document)
    part = _part(boots, judge_runtime, known.stack)
    assert [f.code for f in judge_runtime(part, known.stack, bad).findings] == ["runtime-log-part"]
    assert [f.code for f in bad_files(part, bad)] == ["runtime-log-part"]
    assert bad_files(part, NOTHING_BAD) == ()


def _part(boots: Any, judge: Any, stack: CompiledStack) -> Any:
    """The recorded log without its first half, continuing what ``stack`` judged of it."""
    from watchword.testing.recorded import RecordedHost
    from watchword.testing.soft_tpm import SoftTpm

    recorded = RecordedHost(boots / "good", SoftTpm.create())
    whole = recorded.verify()
    state: RuntimeState = judge(whole.runtime, stack).state
    raws = ImaLog.parse(recorded.ima_log).columns.raws
    rest = b"".join(raws[state.seen.entries :])
    return recorded.verify(ima_log=rest, ima_from=state.seen.entries, seen=state.seen, state=state).runtime


def test_what_stacks_teach_leaves_bad_files_out(stack: Stack) -> None:
    document = stack("good")
    known, bad = release(document), bad_file(document)
    table, other = KnownFiles(Alg.SHA256), KnownFiles(Alg.SHA256)
    assert teach(table, known.stack) > teach(other, known.stack, bad=bad) > 0


# the document


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"what": "kernel"}, "known_bad[0].what"),
        ({"digest": "sha1:" + "0" * 40}, "known_bad[0].digest: does not start with one of"),
        ({"what": "stack", "digest": "sha512:" + "0" * 128}, "known_bad[0].digest: is not a sha256 digest"),
        ({"reason": ""}, "known_bad[0].reason"),
        ({"reason": "a\nb"}, "known_bad[0].reason: has control characters"),
        ({"why": "x"}, "unknown field 'why'"),
    ],
)
def test_what_is_refused(entry: dict[str, Any], says: str) -> None:
    good = {"what": "event", "digest": "sha256:" + "0" * 64, "reason": "old"}
    CompiledStack.parse(changed(STACK, "known_bad", value=[good]))
    with pytest.raises(MalformedError) as caught:
        CompiledStack.parse(changed(STACK, "known_bad", value=[{**good, **entry}]))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("digests", "says"),
    [
        (["sha384:" + "0" * 96], "supersedes[0]: is not a sha256 digest"),
        (["00"], "supersedes[0]: does not start"),
        (["sha256:" + "0" * 64] * 2, "supersedes: names a release twice"),
    ],
)
def test_what_is_superseded(digests: list[str], says: str) -> None:
    assert CompiledStack.parse(changed(STACK, "supersedes", value=["sha256:" + "01" * 32])).supersedes == {b"\1" * 32}
    with pytest.raises(MalformedError) as caught:
        CompiledStack.parse(changed(STACK, "supersedes", value=digests))
    assert says in str(caught.value)


def test_drafts_match_nothing(host: Host, stack: Stack) -> None:
    refused(judge(host("good"), profile(), release(stack("good"), state="draft")), "E2", "stack-none")
