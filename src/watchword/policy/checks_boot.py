"""The rules about firmware, Secure Boot, kernel command line and IMA: facts that the boot itself proves.

What is not known is never good enough: each rule here fails when the log does not tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from watchword.errors import Finding, MalformedError
from watchword.policy.context import Context
from watchword.policy.profile import Rules
from watchword.verify.boot_log import BootFacts
from watchword.verify.command_line import CommandLine, same_name
from watchword.wire.uefi import Signature, parse_signatures

__all__ = ["command_line", "ima_policy", "lockdown", "secure_boot", "secure_boot_keys", "tpm_firmware"]

_LOCKDOWN = ("integrity", "confidentiality")  # each includes the ones before it
_UNKNOWN = "not known"


def tpm_firmware(context: Context, rules: Rules) -> Iterator[Finding]:
    # verify_quote can check this too; it is repeated because the profile, not the caller, must have the last word.
    found = context.host.pcrs.firmware_version
    level = rules.tpm_firmware and frozenset(int(text, 16) for text in rules.tpm_firmware)
    for allowed in (context.profile.tpm_firmware, level):
        if allowed is not None and found not in allowed:
            wanted = " or ".join(f"{version:016x}" for version in sorted(allowed))
            yield Finding(
                "B10", "quote-firmware", "the TPM has a firmware that is not accepted", wanted, f"{found:016x}"
            )


def secure_boot(context: Context, rules: Rules) -> Iterator[Finding]:
    found = context.host.boot.facts.secure_boot
    # None is "the log does not say": not the same as off, and never good enough.
    if rules.secure_boot is not None and found is not rules.secure_boot:
        words = {True: "on", False: "off", None: _UNKNOWN}
        yield Finding("E5", "secure-boot", "Secure Boot", words[rules.secure_boot], words[found])


def secure_boot_keys(context: Context, rules: Rules) -> Iterator[Finding]:
    for name, allowed in rules.secure_boot_keys.items():
        found = _fingerprints(context.host.boot.facts, name)
        strange = _UNKNOWN if found is None else " ".join(each[0] for each in found if not set(each) & set(allowed))
        if strange:
            text = f"Secure Boot believes other keys in {name} than this level accepts"
            yield Finding("E5", "secure-boot-keys", text, " ".join(sorted(allowed)), strange, name)


def _fingerprints(facts: BootFacts, name: str) -> list[tuple[str, ...]] | None:
    """What is in a key database, or vouched for what was loaded, each as it may be written; None when not known."""
    if name == "authorities":
        # Firmware measures an entry of a database, owner (16 bytes) first (PFP 3.3.4.8); shim the certificate alone.
        entries = [(_fingerprint(each.data[16:]), _fingerprint(each.data)) for each in facts.authorities]
        return [*entries] if facts.secure_boot and entries else None
    variable = facts.databases.get(name)
    if variable is None:
        return None
    try:
        return [(_entry_fingerprint(entry),) for entry in parse_signatures(variable.data)]
    except MalformedError:
        return None


def _entry_fingerprint(entry: Signature) -> str:
    return entry.data.hex() if entry.type == "sha256" else _fingerprint(entry.data)


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def command_line(context: Context, rules: Rules) -> Iterator[Finding]:
    wanted, found = rules.command_line, context.command_line
    if wanted is None:
        return
    if found is None:
        text = "the kernel's command line is not known"
        yield Finding("E5", "command-line", text, " ".join(wanted.require), _UNKNOWN)
        return
    for word in wanted.require:
        if not _has(found, word):
            text = "the kernel's command line does not have a word that this level requires, or has it twice"
            yield Finding("E5", "command-line", text, word, found.text)
    for word in wanted.forbid:
        if any(_is(given, word) for given in (*found.kernel, *found.init)):
            text = "the kernel's command line has a word that this level forbids"
            yield Finding("E5", "command-line", text, f"not {word}", found.text)


def _has(line: CommandLine, wanted: str) -> bool:
    """The word is there, and no other one gives the same parameter another value: which one counts, nobody says."""
    name = wanted.partition("=")[0]
    named = [word for word in line.kernel if same_name(word.partition("=")[0], name)]
    return bool(named) and all(word.partition("=")[1:] == wanted.partition("=")[1:] for word in named)


def _is(given: str, forbidden: str) -> bool:
    """A forbidden name alone forbids the parameter with any value."""
    name, sign, value = forbidden.partition("=")
    given_name, given_sign, given_value = given.partition("=")
    return same_name(given_name, name) and (not sign or (given_sign, given_value) == (sign, value))


def lockdown(context: Context, rules: Rules) -> Iterator[Finding]:
    if rules.lockdown is None:
        return
    found = _lockdown(context.command_line) if context.command_line else None
    if found is None or _LOCKDOWN.index(found) < _LOCKDOWN.index(rules.lockdown):
        text = "the kernel was not started in this lockdown mode"
        yield Finding("E5", "lockdown", text, rules.lockdown, found or _UNKNOWN)


def _lockdown(line: CommandLine) -> str | None:
    """The mode that the command line sets; None when it sets none, or may leave the module out altogether."""
    modes = line.values("lockdown")
    modules = [given.split(",") for given in (*line.values("lsm"), *line.values("security"))]
    if any("lockdown" not in given for given in modules) or not modes or not set(modes).issubset(_LOCKDOWN):
        return None
    return min(modes, key=_LOCKDOWN.index)


def ima_policy(context: Context, rules: Rules) -> Iterator[Finding]:
    if not rules.ima_policy:
        return
    line = context.command_line
    found = {name for value in line.values("ima_policy") for name in value.split("|")} if line else set()
    missing = [name for name in rules.ima_policy if name not in found]
    if missing:
        text = "the kernel was not started with this measurement policy"
        yield Finding("E5", "ima-policy", text, " ".join(missing), " ".join(sorted(found)) or _UNKNOWN)
    runtime = context.host.runtime
    if runtime is None or runtime.boot_aggregate == "unchecked":
        yield Finding(
            "E5", "ima-policy", "nothing ties the runtime log to this boot", "boot_aggregate checked", _UNKNOWN
        )
