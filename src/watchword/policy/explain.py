"""What a stack or a profile means, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from watchword.policy.document import digest_name
from watchword.policy.profile import Profile, Rules
from watchword.policy.stack import RUNTIME_PCR, CompiledStack, path_text
from watchword.wire.tpm.algorithms import hash_name

__all__ = ["Change", "compare_profiles", "explain_profile", "explain_stack"]


def explain_profile(profile: Profile) -> list[str]:
    """One line per statement that ``profile`` makes, lowest level first."""
    lines = [f"Profile {profile.name}, id {profile.id.hex()}", *_quoted(profile)]
    for rank, level in enumerate(profile.levels, 1):
        lines.append(f"Level {rank}, {level.name}, is reached when")
        lines.extend(f"  - {line}" for line in _rules(level.rules))
    lines.append("A host gets the highest level whose rules all hold; when none does, nothing is released.")
    return lines


def _quoted(profile: Profile) -> list[str]:
    """What the profile asks of every quote."""
    lines = [f"Quotes PCRs {_numbers(profile.pcrs)} of the {digest_name(profile.bank)} bank."]
    for selection in profile.also:
        lines.append(f"Quotes PCRs {_numbers(selection.pcrs)} of the {hash_name(selection.bank)} bank as well.")
    if RUNTIME_PCR in profile.pcrs:
        lines.append(f"The runtime log may run ahead of the quote by {profile.max_log_ahead} entries.")
    if profile.tpm_firmware is not None:
        versions = ", ".join(f"{version:016x}" for version in sorted(profile.tpm_firmware))
        lines.append(f"Only these TPM firmware versions: {versions}.")
    return lines


@dataclass(frozen=True, slots=True)
class Change:
    """A statement that only one of two profiles makes: ``sign`` "-" the first, "+" the second, at ``place``."""

    sign: str
    place: str
    words: str


def compare_profiles(first: Profile, second: Profile) -> list[Change]:
    """What ``second`` states otherwise than ``first``, level by level; none when both demand the same."""
    one, other = _statements(first), _statements(second)
    changes: list[Change] = []
    for place in dict.fromkeys([*one, *other]):
        before, after = one.get(place, []), other.get(place, [])
        changes += [Change("-", place, words) for words in before if words not in after]
        changes += [Change("+", place, words) for words in after if words not in before]
    return changes


def _statements(profile: Profile) -> dict[str, list[str]]:
    found = {"every quote": _quoted(profile), "levels": [", ".join(level.name for level in profile.levels)]}
    return found | {f"level {level.name}": list(_rules(level.rules)) for level in profile.levels}


def _rules(rules: Rules) -> Iterator[str]:
    yield f"the TPM's identity is {_or([str(c.value) for c in rules.identity])};"
    yield f"the boot log is exactly one stack that covers at least PCRs {_numbers(rules.covers)};"
    if rules.stacks is None:
        yield "the stack may have any name;"
    else:
        yield f"the stack is {_or(rules.stacks)};"
    yield f"the stack is of pool {_or(rules.pools)} and channel {_or(rules.channels)};"
    if rules.origin is not None:
        yield f"the stack was {_or(rules.origin)};"
    for component, variants in sorted(rules.variants.items()):
        yield f"its {component} is of variant {_or(variants)};"
    for name, serial in sorted(rules.min_serial.items()):
        yield f"if it is {name}, its serial is {serial} or higher;"
    if rules.endorsers is None:
        yield "no endorser of its own: who may register stacks is left to the authority;"
    else:
        keys = ", ".join(key[:16] + "…" for key in rules.endorsers.keys)
        yield f"the stack is signed by at least {rules.endorsers.threshold} of {keys};"
    yield from _facts(rules)
    yield f"the challenge was issued at most {rules.max_age_seconds} seconds before;"
    yield "the stack is valid at that time, not retired and not revoked;"
    yield "the host shows nothing that a release in force names as known to be bad."


def _facts(rules: Rules) -> Iterator[str]:
    if rules.tpm_firmware is not None:
        yield f"the TPM's firmware is version {_or(rules.tpm_firmware)};"
    if rules.secure_boot is not None:
        yield f"Secure Boot is {'on' if rules.secure_boot else 'off'};"
    for name, keys in sorted(rules.secure_boot_keys.items()):
        yield f"Secure Boot's {name} are known, and none but {_or([key[:16] + '…' for key in keys])};"
    if rules.command_line is not None:
        for word in rules.command_line.require:
            yield f"the kernel's command line is known and has {word};"
        for word in rules.command_line.forbid:
            yield f"the kernel's command line is known and does not have {word};"
    if rules.lockdown is not None:
        yield f"the kernel was started with lockdown={rules.lockdown}, or a stricter mode;"
    if rules.ima_policy:
        yield f"IMA began with the policy {' and '.join(rules.ima_policy)}, and its log belongs to this boot;"
    if rules.runtime == "listed":
        yield "every file in the quoted part of the runtime log is listed by the stack;"
    else:
        yield "what runs after the boot is ignored;"
    if not rules.reject_violations:
        yield "files that changed while they were measured are accepted;"


def explain_stack(stack: CompiledStack) -> list[str]:
    """One line per statement that ``stack`` makes."""
    origin = "computed from artifacts" if stack.origin == "computed" else "captured from a host, not computed"
    lines = [
        f"Stack {stack.label}, serial {stack.serial}, {origin}, digest {stack.digest.hex()}",
        f"Covers PCRs {_numbers(stack.pcrs)} in {', '.join(sorted(digest_name(bank) for bank in stack.banks))}.",
        f"Offered in pool {stack.pool}, channel {stack.channel}.",
        _window(stack),
    ]
    if stack.supersedes:
        lines.append(f"Replaces {_or([digest.hex()[:16] + '…' for digest in sorted(stack.supersedes)])}.")
    lines += [f"Names {bad.what} {bad.digest.hex()[:16]}… as bad: {bad.reason}." for bad in stack.known_bad]
    for line in sorted(
        {e.command_line for c in stack.components for v in c.variants for e in v.events} - {None}, key=str
    ):
        lines.append(f"Says that the kernel's command line is: {line}")
    for component in stack.components:
        variants = [f"{v.name} ({len(v.events)} events)" for v in component.variants]
        lines.append(f"  - {component.name}: {_or(variants)}")
    silent = sorted(set(stack.pcrs) - {e.pcr for c in stack.components for v in c.variants for e in v.events})
    if silent:
        lines.append(f"PCRs {_numbers(silent)} must have no event at all.")
    if stack.runtime:
        lines.append(f"Lists {len(stack.files)} paths, and {len(stack.any_path)} digests that may be anywhere.")
        for keyring, keys in sorted(stack.keyrings.items()):
            lines.append(f"Keyring {path_text(keyring)} may hold {len(keys)} keys, whose signatures count for nothing.")
    else:
        lines.append("Says nothing about what runs after the boot.")
    return lines


def _window(stack: CompiledStack) -> str:
    start = "" if stack.not_before is None else f" from {_time(stack.not_before)}"
    end = "" if stack.not_after is None else f" until {_time(stack.not_after)}"
    return f"Valid{start}{end}." if start or end else "Valid without an end date."


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return f"second {seconds}"


def _or(words: list[str] | tuple[str, ...]) -> str:
    return " or ".join(words)


def _numbers(values: list[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
