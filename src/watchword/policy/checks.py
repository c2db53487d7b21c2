"""The rules of a level, one small function each. All run, all findings are collected (clauses D5, E2 to E5).

To add a rule: a field in ``profile.Rules``, a function here, a line in ``CHECKS``, a test that only it can fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from watchword.errors import Finding
from watchword.policy.checks_boot import command_line, ima_policy, lockdown, secure_boot, secure_boot_keys, tpm_firmware
from watchword.policy.context import Check, Context, Offered, OfRelease
from watchword.policy.known_bad import KnownBad
from watchword.policy.profile import Rules
from watchword.policy.release import StackRelease
from watchword.verify.host import VerifiedHost
from watchword.wire.tpm.algorithms import Alg

__all__ = ["CHECKS", "OF_RELEASES", "Context", "bad_boot"]


def identity_class(context: Context, rules: Rules) -> Iterator[Finding]:
    found = context.host.ak.ek_class
    if found not in rules.identity:
        wanted = ", ".join(rules.identity)
        yield Finding("E5", "identity-class", "the TPM is of a class that is not accepted", wanted, str(found.value))


def stack_matched(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release is None:
        yield from context.unmatched or (
            Finding("E2", "stack-none", "no stack is on file that this host could be compared with"),
        )


def stack_named(context: Offered, rules: Rules) -> Iterator[Finding]:
    release = context.release
    if release and rules.stacks is not None and release.stack.name not in rules.stacks:
        wanted = ", ".join(rules.stacks)
        yield _stack_finding("E2", "stack-none", "this level does not accept the stack", release, wanted)


def stack_pool(context: Offered, rules: Rules) -> Iterator[Finding]:
    # What is offered for special hosts has been vetted for them only: another pool's release is nobody's by default.
    release = context.release
    if release and release.stack.pool not in rules.pools:
        text = "this level does not accept the pool of the stack"
        yield _stack_finding("E2", "stack-pool", text, release, " or ".join(rules.pools), release.stack.pool)


def stack_channel(context: Offered, rules: Rules) -> Iterator[Finding]:
    release = context.release
    if release and release.stack.channel not in rules.channels:
        text = "this level does not accept the channel of the stack"
        yield _stack_finding("E2", "stack-channel", text, release, " or ".join(rules.channels), release.stack.channel)


def stack_origin(context: Offered, rules: Rules) -> Iterator[Finding]:
    # A captured stack says what one machine did, and is as good as that machine was.
    release = context.release
    if release and rules.origin is not None and release.stack.origin not in rules.origin:
        text = "this level does not accept how the stack came about"
        yield _stack_finding("E2", "stack-origin", text, release, " or ".join(rules.origin), release.stack.origin)


def stack_variants(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release is None:
        return
    chosen = dict(context.variants)
    for component, allowed in rules.variants.items():
        found = chosen.get(component)
        if found not in allowed:
            text = f"this level does not accept the variant of {component}"
            actual = found if found is not None else "the stack has no such component"
            yield _stack_finding("E2", "stack-variant", text, context.release, " or ".join(allowed), actual)


def coverage(context: Offered, rules: Rules) -> Iterator[Finding]:
    release = context.release
    if release:
        missing = sorted(set(rules.covers) - set(release.stack.pcrs))
        if missing:
            text = "the stack says nothing about PCRs that this level wants judged"
            yield _stack_finding("E2", "coverage", text, release, _numbers(rules.covers), _numbers(release.stack.pcrs))


def validity(context: Offered, rules: Rules) -> Iterator[Finding]:
    release, now = context.release, context.now
    if release is None:
        return
    stack = release.stack
    if stack.not_before is not None and now < stack.not_before:
        yield _stack_finding("E3", "stack-expired", "not valid yet", release, f"from {stack.not_before}", str(now))
    if stack.not_after is not None and now >= stack.not_after:
        yield _stack_finding("E3", "stack-expired", "no longer valid", release, f"until {stack.not_after}", str(now))
    if release.retire_at is not None and now >= release.retire_at:
        yield _stack_finding("E3", "stack-expired", "retired", release, f"until {release.retire_at}", str(now))


def not_revoked(context: Offered, rules: Rules) -> Iterator[Finding]:
    if context.release and context.release.state == "revoked":
        yield _stack_finding("E3", "stack-revoked", "the stack was revoked", context.release)


def not_rolled_back(context: Offered, rules: Rules) -> Iterator[Finding]:
    if context.release:
        stack = context.release.stack
        least = rules.min_serial.get(stack.name, 0)
        if stack.serial < least:
            text = "the stack is older than this level accepts"
            yield _stack_finding("E3", "stack-rolled-back", text, context.release, str(least), str(stack.serial))


def endorsed(context: Offered, rules: Rules) -> Iterator[Finding]:
    if context.release and rules.endorsers is not None:
        found = len(context.release.endorsed_by & set(rules.endorsers.keys))
        if found < rules.endorsers.threshold:
            wanted = f"{rules.endorsers.threshold} of {len(rules.endorsers.keys)}"
            text = "too few of the accepted endorsers signed the stack"
            yield _stack_finding("E3", "stack-endorsers", text, context.release, wanted, str(found))


def not_known_bad(context: Context, rules: Rules) -> Iterator[Finding]:
    yield from context.known_bad


def bad_boot(host: VerifiedHost, stacks: Sequence[bytes], bad: KnownBad) -> tuple[Finding, ...]:
    """E3: the events that ``host`` measured, and the stacks that it runs (by digest), of those named as bad."""
    if not bad.events and not bad.stacks:
        return ()
    bank = host.boot.bank
    events = [
        (f"pcr {e.pcr} event {e.index} type {e.type_name}", bad.events.get((bank, e.digest))) for e in host.boot.events
    ]
    runs = [(f"stack {digest.hex()}", bad.stacks.get((Alg.SHA256, digest))) for digest in stacks]
    return tuple(why.finding(subject) for subject, why in (*events, *runs) if why is not None)


def age(context: Context, rules: Rules) -> Iterator[Finding]:
    # The quote is younger than the nonce in it, so the nonce's age is an upper bound that the host cannot move.
    seconds = context.now - context.challenged_at
    if not 0 <= seconds <= rules.max_age_seconds:
        limit = f"0 to {rules.max_age_seconds} seconds"
        yield Finding("E4", "evidence-age", "the challenge was not issued just now", limit, f"{seconds} seconds")


def runtime_listed(context: Context, rules: Rules) -> Iterator[Finding]:
    if rules.runtime == "listed":
        yield from context.runtime


def log_ahead(context: Context, rules: Rules) -> Iterator[Finding]:
    # verify_ima_log checks this too, by the most patient of the profiles that a host is judged by together.
    log, allowed = context.host.runtime, context.profile.max_log_ahead
    if rules.runtime == "listed" and log is not None and log.ahead > allowed:
        text = "the log has more entries after the quote than allowed"
        yield Finding("D3", "runtime-log-ahead", text, f"at most {allowed}", str(log.ahead))


def no_violations(context: Context, rules: Rules) -> Iterator[Finding]:
    log = context.host.runtime
    if rules.reject_violations and log is not None and log.violations:
        text = "the kernel measured files while they were being changed, their content is not known"
        yield Finding("D5", "runtime-violation", text, "no violations", str(len(log.violations)))


# Those that look at the release alone.
OF_RELEASES: tuple[OfRelease, ...] = (
    stack_named,
    stack_pool,
    stack_channel,
    stack_origin,
    coverage,
    validity,
    not_revoked,
    not_rolled_back,
    endorsed,
)

CHECKS: tuple[Check, ...] = (
    identity_class,
    tpm_firmware,
    secure_boot,
    secure_boot_keys,
    command_line,
    lockdown,
    stack_matched,
    *OF_RELEASES,
    stack_variants,
    not_known_bad,
    age,
    ima_policy,
    runtime_listed,
    log_ahead,
    no_violations,
)


def _stack_finding(
    clause: str, code: str, message: str, release: StackRelease, expected: str = "", actual: str = ""
) -> Finding:
    return Finding(clause, code, message, expected, actual or release.stack.label, f"stack {release.stack.label}")


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
