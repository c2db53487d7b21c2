"""Obtains what a tenant sealed, whether one authority has it or several have a share of it each.

With shares, all authorities are asked for a challenge at the same time, and nothing is spent before enough of them
answered. Then one after the other releases its share, each to a quote of its own, until there are enough good ones. A
share is compared with the launch set as soon as it is open (L3), so a false one is known by its authority's name, and
the next authority takes its place. Shares and secret exist in memory only.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from watchword.agent.host import Host, Link
from watchword.agent.transport import ask
from watchword.agent.unseal import open_release, open_share, request_release, request_share
from watchword.crypto.envelope import LaunchSecret, LaunchShare
from watchword.crypto.launch_set import check_share
from watchword.crypto.shamir import combine
from watchword.errors import Finding, MalformedError, Rejected, Unavailable, WatchwordError
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Release
from watchword.wire.share import RUN_SIZE, Bundle, SealedSet
from watchword.wire.token import Token

__all__ = ["COLLECT_SECONDS", "Kept", "check_bundle", "obtain", "reopen"]

COLLECT_SECONDS = 90.0  # for all shares together; one exchange has a time-out of its own
Kept = Sequence[tuple[Release, bytes]]  # releases, still closed, each with the binding that it answers
_CLIP = 300


def check_bundle(text: str) -> Bundle:
    """The tokens in ``text``: one with a whole secret, or shares with their launch set.

    Raises :class:`MalformedError` (``bundle`` when they do not go together).
    """
    bundle = Bundle.parse(text)
    shares = [Token.parse(token).is_share for token in bundle.tokens]
    if not bundle.launch_set:
        if shares[0]:
            raise MalformedError(
                "token: it holds one share of a secret, and the other tokens are not there", code="bundle", hint=_WHOLE
            )
        return bundle
    sealed = SealedSet.parse(bundle.launch_set)
    if not all(shares):
        raise MalformedError("tokens: one of them holds a whole secret and no share", code="bundle", hint=_WHOLE)
    if not sealed.threshold <= len(shares) <= sealed.count:
        said = f"{len(shares)} tokens, and the launch set is for {sealed.threshold} to {sealed.count}"
        raise MalformedError(f"tokens: {said}", code="bundle", hint=_WHOLE)
    return bundle


_WHOLE = "Give all tokens of the launch and their launch set, as they were made together."


def obtain(
    host: Host,
    host_id: bytes,
    text: str,
    instance: str,
    *,
    keep: Callable[[Kept], None] = lambda kept: None,
    tell: Callable[[str, WatchwordError], None] = lambda authority, error: None,
    seconds: float = COLLECT_SECONDS,
) -> LaunchSecret:
    """The secret in the tokens of ``text`` for the machine ``instance``; the caller holds this host's turn.

    ``keep`` is given every release that is needed, still closed, before it is opened for use; ``tell`` the name of each
    authority that gave no good share, and why. Raises :class:`Rejected`, :class:`MalformedError`, :class:`Unavailable`
    or a TPM error; of shares ``shares-few``, with what each authority said.
    """
    bundle = check_bundle(text)
    if bundle.launch_set:
        return _Collection(host, host_id, bundle, instance, time.monotonic() + seconds, tell).run(keep)
    token = bundle.tokens[0]
    towards = host.towards(host.link_for(token))
    release, bound = request_release(towards, host_id, token, instance)
    keep([(release, bound)])
    return open_release(towards, release, bound)


def reopen(host: Host, text: str, kept: Kept) -> LaunchSecret:
    """Open what ``keep`` was given, in the same boot and in time. Raises as :func:`obtain` does."""
    bundle = check_bundle(text)
    if not bundle.launch_set:
        if len(kept) != 1:
            raise MalformedError("release: one is needed to open a secret again")
        return open_release(host, *kept[0])
    sealed = SealedSet.parse(bundle.launch_set)
    shares: dict[int, LaunchShare] = {}
    for release, bound in kept:
        _add(shares, sealed, open_share(host, release, bound))
    if len(shares) != sealed.threshold:
        raise MalformedError("release: fewer shares were kept than are needed")
    return _whole(shares)


@dataclass(slots=True)
class _Collection:
    """One attempt to collect shares: ``deadline`` by the monotonic clock."""

    host: Host
    host_id: bytes
    bundle: Bundle
    instance: str
    deadline: float
    tell: Callable[[str, WatchwordError], None]
    failures: list[tuple[str, WatchwordError]] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)

    def run(self, keep: Callable[[Kept], None]) -> LaunchSecret:
        sealed = SealedSet.parse(self.bundle.launch_set)
        assigned = self._assign()
        self.pending = {link.keys.authority for link in assigned.values()}
        answers = _ask_all(self.host_id, assigned)
        run = secrets.token_bytes(RUN_SIZE)
        shares: dict[int, LaunchShare] = {}
        kept: list[tuple[Release, bytes]] = []
        waiting: list[_Answer] = []
        while len(shares) < sealed.threshold:
            # Nothing is spent while it cannot be told whether it is of use.
            while self.pending and len(shares) + len(waiting) < sealed.threshold:
                self._take(answers, waiting)
            if len(shares) + len(waiting) < sealed.threshold:
                raise self._too_few(len(shares), sealed)
            self._release(waiting.pop(0), run, sealed, shares, kept)
        keep(kept)
        return _whole(shares)

    # -- challenges ----------------------------------------------------------------------------------------------

    def _assign(self) -> Mapping[str, Link]:
        """Which authority each token is for, by the key that it is sealed to; each authority has one share."""
        found: dict[str, Link] = {}
        for token in self.bundle.tokens:
            try:
                link = self.host.link_for(token)
            except Unavailable as error:
                self._failed(f"key {Token.parse(token).key_id.hex()}", error)
                continue
            if token in found or link in found.values():
                self._failed(link.keys.authority, _twice("two tokens are for one authority"))
                continue
            found[token] = link
        return found

    def _take(self, answers: queue.Queue[_Answer], waiting: list[_Answer]) -> None:
        try:
            answer = answers.get(timeout=max(0.0, self.deadline - time.monotonic()))
        except queue.Empty:
            while self.pending:
                self._failed(self.pending.pop(), Unavailable("exchange-slow", "it did not answer in time"))
            return
        self.pending.discard(answer.link.keys.authority)
        if answer.error is not None:
            self._failed(answer.link.keys.authority, answer.error)
        else:
            waiting.append(answer)

    # -- releases ------------------------------------------------------------------------------------------------

    def _release(
        self,
        answer: _Answer,
        run: bytes,
        sealed: SealedSet,
        shares: dict[int, LaunchShare],
        kept: list[tuple[Release, bytes]],
    ) -> None:
        assert answer.challenge is not None
        towards = self.host.towards(answer.link)
        try:
            if time.monotonic() >= self.deadline:
                raise Unavailable("exchange-slow", "there was no time left to ask for its share")
            release, bound = request_share(towards, answer.request, answer.challenge, self.instance, run)
            _add(shares, sealed, open_share(towards, release, bound))
            kept.append((release, bound))
        except WatchwordError as error:
            self._failed(answer.link.keys.authority, error)

    def _failed(self, authority: str, error: WatchwordError) -> None:
        self.failures.append((authority, error))
        self.tell(authority, error)

    def _too_few(self, found: int, sealed: SealedSet) -> WatchwordError:
        """Refused for good when too many authorities said no; else it may work another time."""
        final = [error for _, error in self.failures if isinstance(error, Rejected | MalformedError)]
        message = f"{found} of the {sealed.threshold} shares that are needed were released"
        if len(self.bundle.tokens) - len(final) < sealed.threshold:
            reasons = [_reason(*failure) for failure in self.failures]
            return Rejected(Finding("L3", "shares-few", message), *reasons, hint=_HINT)
        said = "; ".join(f"{name}: {error.code}: {error.message[:_CLIP]}" for name, error in self.failures)
        return Unavailable("shares-few", f"{message}: {said}", hint=_HINT)


_HINT = "What each authority said tells whose turn it is: the host's operator, the tenant, or that authority."


@dataclass(frozen=True, slots=True)
class _Answer:
    link: Link
    request: ChallengeRequest
    challenge: Challenge | None
    error: WatchwordError | None


def _ask_all(host_id: bytes, assigned: Mapping[str, Link]) -> queue.Queue[_Answer]:
    answers: queue.Queue[_Answer] = queue.Queue()
    for token, link in assigned.items():
        request = ChallengeRequest(host_id, Purpose.SHARE, token)
        threading.Thread(target=_challenge, args=(link, request, answers), daemon=True).start()
    return answers


def _challenge(link: Link, request: ChallengeRequest, answers: queue.Queue[_Answer]) -> None:
    """In a thread of its own: an authority that does not answer must not hold up the others."""
    try:
        answers.put(_Answer(link, request, ask(link.exchange, link.keys, request, Challenge), None))
    except WatchwordError as error:
        answers.put(_Answer(link, request, None, error))
    except RuntimeError:  # the way was closed meanwhile, because the others were enough
        answers.put(_Answer(link, request, None, Unavailable("exchange-failed", "it was not needed any more")))


def _add(shares: dict[int, LaunchShare], sealed: SealedSet, share: LaunchShare) -> None:
    check_share(sealed, share)
    if share.place.index in shares:
        raise _twice(f"two authorities released {share.place}")
    shares[share.place.index] = share


def _whole(shares: Mapping[int, LaunchShare]) -> LaunchSecret:
    one = next(iter(shares.values()))
    secret = combine({index: share.share for index, share in shares.items()})
    return LaunchSecret(secret, one.launch_id, one.inputs, one.flags)


def _twice(message: str) -> Rejected:
    return Rejected(Finding("L3", "share-duplicate", message))


def _reason(authority: str, error: WatchwordError) -> Finding:
    """One authority's word, with its name."""
    if isinstance(error, Rejected):
        first = error.findings[0]
        return Finding(first.clause, first.code, first.message, first.expected, first.actual, authority)
    return _missing(authority, error)


def _missing(authority: str, error: WatchwordError) -> Finding:
    return Finding("L3", "share-missing", f"{error.code}: {error.message[:_CLIP]}", subject=authority)
