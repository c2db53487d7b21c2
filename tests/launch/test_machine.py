"""The state machine of one request: complete, in order, and closed after a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from watchword.crypto.envelope import open_payload, open_share_payload
from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch.machine import TRANSITIONS, Launch, State, pseudonym
from watchword.launch.receipt import Decision, ShareRecord, launch_key
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Release
from watchword.wire.share import SharePlace

from .helpers import DATA_KEY, MAC_KEY, NOW, PSEUDONYM_KEY, REPLY_KEY, RUN, Case

RANK_REFUSAL = Rejected(Finding("A5", "host-revoked", "for a test"))


def steps(case: Case) -> dict[str, Callable[[Launch], object]]:
    return {
        "open_token": lambda launch: launch.open_token(case.keys),
        "accept_nonce": lambda launch: launch.accept_nonce(MAC_KEY),
        "appraise": lambda launch: launch.appraise(case.known()),
        "count": lambda launch: launch.count(nonce_is_fresh=True, releases=0),
        "refuse": lambda launch: launch.refuse(RANK_REFUSAL),
        "recorded": lambda launch: launch.recorded(),
        "recorded_refusal": lambda launch: launch.recorded(),
        "seal": lambda launch: launch.seal(DATA_KEY),
    }


PATHS: dict[State, tuple[str, ...]] = {
    State.NEW: (),
    State.GRANTED: ("open_token",),
    State.CHALLENGED: ("open_token", "accept_nonce"),
    State.APPROVED: ("open_token", "accept_nonce", "appraise"),
    State.COUNTED: ("open_token", "accept_nonce", "appraise", "count"),
    State.REFUSED: ("open_token", "refuse"),
    State.RECORDED: ("open_token", "accept_nonce", "appraise", "count", "recorded"),
    State.CLOSED: ("open_token", "accept_nonce", "appraise", "count", "recorded", "seal"),
}


def reach(case: Case, state: State) -> Launch:
    launch = case.launch()
    for step in PATHS[state]:
        steps(case)[step](launch)
    assert launch.state is state
    return launch


def test_the_table_is_complete(case: Case) -> None:
    assert set(PATHS) == set(State)
    assert set(steps(case)) == set(TRANSITIONS)
    reachable = {State.NEW} | {after for _, after in TRANSITIONS.values()}
    assert reachable == set(State)
    assert {state for before, _ in TRANSITIONS.values() for state in before} == set(State) - {State.CLOSED}


@pytest.mark.parametrize("state", list(State))
def test_a_step_out_of_order_is_our_own_bug(case: Case, state: State) -> None:
    for name, step in steps(case).items():
        possible = {"recorded", "recorded_refusal"} if name.startswith("recorded") else {name}
        if any(state in TRANSITIONS[each][0] for each in possible):
            continue
        launch = reach(case, state)
        with pytest.raises(RuntimeError):
            step(launch)
        assert launch.state is state, name


def test_sealing_needs_the_record_and_happens_once(case: Case) -> None:
    for state in set(State) - {State.RECORDED}:
        with pytest.raises(RuntimeError):
            reach(case, state).seal(DATA_KEY)
    launch = reach(case, State.RECORDED)
    assert isinstance(launch.seal(DATA_KEY), Release)
    with pytest.raises(RuntimeError):
        launch.seal(DATA_KEY)


def test_there_is_no_decision_before_there_is_one(case: Case) -> None:
    for state in set(State) - {State.COUNTED, State.REFUSED}:
        with pytest.raises(RuntimeError):
            reach(case, state).decision(releases=0, pseudonym_key=PSEUDONYM_KEY)


def test_the_decision_of_a_release(case: Case) -> None:
    decision = reach(case, State.COUNTED).decision(releases=1, pseudonym_key=PSEUDONYM_KEY)
    assert (decision.outcome, decision.level, decision.rank, decision.required) == ("released", "full", 2, 2)
    assert decision.stack is not None
    assert (decision.stack.name, decision.releases, decision.allowed, decision.lease) == ("compute", 1, 1, 120)
    assert decision.launch == launch_key(case.body.launch_id).hex()
    assert decision.findings == ()


def test_the_decision_of_a_refusal_tells_the_level_that_was_reached(case: Case) -> None:
    launch = case.launch("altered-binary")
    launch.open_token(case.keys)
    launch.accept_nonce(MAC_KEY)
    with pytest.raises(Rejected):
        launch.appraise(case.known())
    decision = launch.decision(releases=0, pseudonym_key=PSEUDONYM_KEY)
    assert (decision.outcome, decision.level, decision.rank, decision.lease) == ("refused", "boot", 1, 0)
    assert [finding.code for finding in decision.findings] == ["runtime-file", "profile-level"]


def test_no_secret_is_in_a_decision(case: Case) -> None:
    case.body = case.new_body(secret=b"S" * 32, launch_id=b"L" * 16)
    text = reach(case, State.COUNTED).decision(releases=1, pseudonym_key=PSEUDONYM_KEY).encode()
    for private in (b"S" * 32, b"L" * 16, case.tpm.ak.host_id):
        assert private not in text
        assert private.hex().encode() not in text


@pytest.mark.parametrize(
    ("fields", "clause", "code"),
    [
        ({"ak": None}, "A4", "host-unknown"),
        ({"revoked": True}, "A5", "host-revoked"),
        ({"profile": None}, "F2", "profile-unknown"),
        ({"releases": ()}, "E2", "stack-none"),
    ],
)
def test_what_is_on_file_decides(case: Case, fields: dict[str, object], clause: str, code: str) -> None:
    launch = reach(case, State.CHALLENGED)
    with pytest.raises(Rejected) as caught:
        launch.appraise(case.known(**fields))
    assert (caught.value.clause, caught.value.code) == (clause, code)
    assert launch.state is State.REFUSED
    assert launch.findings == caught.value.findings


def test_the_profile_on_file_must_be_the_one_in_the_token(case: Case) -> None:
    profile = case.profile
    case.body = case.new_body(profile=bytes(32))
    launch = reach(case, State.CHALLENGED)
    with pytest.raises(Rejected) as caught:
        launch.appraise(case.known(profile=profile))
    assert (caught.value.clause, caught.value.code) == ("F2", "profile-unknown")


@pytest.mark.parametrize("part", ["event_log", "ima_log"])
def test_evidence_that_does_not_parse_is_refused_and_recorded(case: Case, part: str) -> None:
    launch = reach(case, State.CHALLENGED)
    object.__setattr__(launch.evidence, part, b"\xff")
    with pytest.raises(Rejected) as caught:
        launch.appraise(case.known())
    assert caught.value.code == "evidence-malformed"
    assert launch.decision(releases=0, pseudonym_key=PSEUDONYM_KEY).outcome == "refused"


@pytest.mark.parametrize(
    ("fresh", "releases", "clause", "code"),
    [(False, 0, "B6", "nonce-used"), (True, 1, "F4", "token-used-up"), (False, 9, "B6", "nonce-used")],
)
def test_counting(case: Case, fresh: bool, releases: int, clause: str, code: str) -> None:
    launch = reach(case, State.APPROVED)
    with pytest.raises(Rejected) as caught:
        launch.count(nonce_is_fresh=fresh, releases=releases)
    assert (caught.value.clause, caught.value.code) == (clause, code)
    assert launch.state is State.REFUSED


def test_the_token_must_not_expire_before_the_evidence_arrives(case: Case) -> None:
    case.body = case.new_body(expires=NOW)
    launch = reach(case, State.GRANTED)
    with pytest.raises(Rejected) as caught:
        launch.accept_nonce(MAC_KEY)
    assert (caught.value.clause, caught.value.code) == ("F3", "token-expired")


def test_a_nonce_that_is_not_ours(case: Case) -> None:
    launch = reach(case, State.GRANTED)
    with pytest.raises(Rejected) as caught:
        launch.accept_nonce(bytes(32))
    assert (caught.value.clause, caught.value.code) == ("B6", "nonce-unknown")
    assert launch.nonce_expires == 0


def test_a_token_that_is_not_ours_is_no_decision(case: Case) -> None:
    launch = case.launch()
    with pytest.raises(Rejected) as caught:
        launch.open_token({})
    assert caught.value.clause == "F1"
    assert launch.state is State.NEW


def test_a_token_that_is_not_one(case: Case) -> None:
    launch = case.launch()
    object.__setattr__(launch.evidence, "token", "WWT1!")
    with pytest.raises(MalformedError):
        launch.open_token(case.keys)


def test_findings_in_a_decision_are_bounded(case: Case) -> None:
    launch = reach(case, State.GRANTED)
    launch.refuse(Rejected(*[Finding("D5", "runtime-file", "m", actual=str(i)) for i in range(500)]))
    assert len(launch.decision(releases=0, pseudonym_key=PSEUDONYM_KEY).findings) == 50


def test_pseudonyms_cannot_be_linked_across_profiles() -> None:
    names = {pseudonym(key, host, profile) for key in (b"a", b"b") for host in (b"h" * 32, b"i" * 32)
             for profile in (b"p" * 32, b"q" * 32)}  # fmt: skip
    assert len(names) == 8
    assert all(len(name) == 32 for name in names)


# -- shares of a secret ------------------------------------------------------------------------------------------------


def test_a_share_is_released_as_a_share_and_recorded_as_one(case: Case) -> None:
    case.body = case.new_body(secret=b"s" * 32, place=SharePlace(2, 2, 3))
    launch = reach(case, State.COUNTED)
    decision = launch.decision(releases=1, pseudonym_key=PSEUDONYM_KEY)
    assert decision.share == ShareRecord(2, 2, 3, RUN.hex())
    assert Decision.parse(decision.encode()) == decision
    launch.recorded()
    sealed = launch.seal(DATA_KEY)
    share = open_share_payload(DATA_KEY, sealed.payload, launch.bound)
    assert (share.share, share.place, share.launch_id) == (b"s" * 32, SharePlace(2, 2, 3), case.body.launch_id)
    with pytest.raises(MalformedError):
        open_payload(DATA_KEY, sealed.payload, launch.bound)


def test_a_decision_about_a_whole_secret_says_nothing_of_shares(case: Case) -> None:
    decision = reach(case, State.COUNTED).decision(releases=1, pseudonym_key=PSEUDONYM_KEY)
    assert decision.share is msgspec.UNSET
    assert b"share" not in decision.encode()


@pytest.mark.parametrize(("place", "purpose"), [(SharePlace(1, 2, 2), Purpose.LAUNCH), (None, Purpose.SHARE)])
def test_f6_a_share_is_asked_for_as_one(case: Case, place: SharePlace | None, purpose: Purpose) -> None:
    case.body, case.purpose = case.new_body(place=place), purpose
    launch = reach(case, State.GRANTED)
    with pytest.raises(Rejected) as caught:
        launch.accept_nonce(MAC_KEY)
    assert (caught.value.clause, caught.value.code) == ("F6", "share-purpose")
    assert launch.state is State.REFUSED
    decision = launch.decision(releases=0, pseudonym_key=PSEUDONYM_KEY)
    assert (decision.outcome, decision.findings[0].code) == ("refused", "share-purpose")


def test_b5_the_run_is_in_the_quote(case: Case) -> None:
    """Another host's run cannot be claimed after the quote."""
    case.body = case.new_body(place=SharePlace(1, 2, 2))
    launch = Launch(replace(case.evidence(), run=b"r" * 16), REPLY_KEY, NOW)
    launch.open_token(case.keys)
    launch.accept_nonce(MAC_KEY)
    with pytest.raises(Rejected) as caught:
        launch.appraise(case.known())
    assert (caught.value.clause, caught.value.code) == ("B5", "quote-binding")
