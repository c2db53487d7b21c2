"""The rules that a level of a profile may have, and which combinations make no sense (clause E1)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from watchword.policy.document import fail, parse_hex
from watchword.policy.stack import RUNTIME_PCR, Name, Pcr
from watchword.verify.command_line import COMMAND_LINE_PCRS, command_line_words
from watchword.verify.ek import EkClass

__all__ = ["DEFAULT_MAX_AGE", "CommandLineRule", "Endorsers", "Rules", "check_rules"]

DEFAULT_MAX_AGE = 300  # seconds between challenge and appraisal
_SECURE_BOOT_PCR = 7
_Names = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=256)]
_Words = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=256)]
_Keys = Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]


class Endorsers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At least ``threshold`` of ``keys`` (hex key ids, see ``crypto.dsse``) must have signed the stack."""

    keys: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]
    threshold: Annotated[int, Meta(ge=1, le=256)]


class CommandLineRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that the kernel's command line must have, and must not have."""

    require: _Words = ()
    forbid: _Words = ()


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of one level; all must hold. Every field is described in ``docs/reference/profile-format.md``."""

    identity: Annotated[tuple[EkClass, ...], Meta(min_length=1, max_length=8)]
    covers: Annotated[tuple[Pcr, ...], Meta(min_length=1, max_length=24)]
    runtime: Literal["listed", "ignored"]
    stacks: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1024)] | None = None
    pools: _Names = ("default",)
    channels: _Names = ("stable",)
    origin: Annotated[tuple[Literal["computed", "captured"], ...], Meta(min_length=1, max_length=2)] | None = None
    variants: Annotated[dict[Name, _Names], Meta(max_length=256)] = {}
    endorsers: Endorsers | None = None
    min_serial: dict[Name, Annotated[int, Meta(ge=1, le=2**53)]] = {}
    tpm_firmware: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1024)] | None = None
    secure_boot: bool | None = None
    secure_boot_keys: dict[Literal["PK", "KEK", "db", "authorities"], _Keys] = {}
    command_line: CommandLineRule | None = None
    lockdown: Literal["integrity", "confidentiality"] | None = None
    ima_policy: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    reject_violations: bool = True
    max_age_seconds: Annotated[int, Meta(ge=1, le=86400)] = DEFAULT_MAX_AGE

    @property
    def asks_command_line(self) -> bool:
        """Whether a rule is about the kernel's command line."""
        return self.command_line is not None or self.lockdown is not None or bool(self.ima_policy)


def check_rules(what: str, rules: Rules, quoted: tuple[int, ...], path: str) -> None:
    """Refuse rules that accept anybody's software, that ``quoted`` PCRs cannot answer, or that say nothing.

    ``what`` names the document and ``path`` the place in errors. Raises MalformedError.
    """
    if rules.stacks is None and rules.endorsers is None:
        fail(what, path, "names neither stacks nor endorsers, so this level would accept anybody's software")
    if list(rules.covers) != sorted(set(rules.covers)):
        fail(what, f"{path}.covers", "must be ascending and without repetition")
    if RUNTIME_PCR in rules.covers:
        fail(what, f"{path}.covers", f'PCR {RUNTIME_PCR} is the runtime log, ask for it with "runtime": "listed"')
    if set(rules.covers) - set(quoted):
        fail(what, f"{path}.covers", "has a PCR that this profile does not quote")
    if rules.runtime == "listed" and RUNTIME_PCR not in quoted:
        fail(what, f"{path}.runtime", f"PCR {RUNTIME_PCR} must be quoted to judge the runtime log")
    if len(set(rules.identity)) != len(rules.identity):
        fail(what, f"{path}.identity", "repeats a class")
    for i, text in enumerate(rules.tpm_firmware or ()):
        parse_hex(what, f"{path}.tpm_firmware[{i}]", text, 8)
    if rules.endorsers is not None:
        _check_endorsers(what, rules.endorsers, f"{path}.endorsers")
    _check_secure_boot(what, rules, quoted, path)
    _check_command_line(what, rules, quoted, path)


def _check_secure_boot(what: str, rules: Rules, quoted: tuple[int, ...], path: str) -> None:
    if rules.secure_boot is not None and _SECURE_BOOT_PCR not in quoted:
        fail(what, f"{path}.secure_boot", f"PCR {_SECURE_BOOT_PCR} must be quoted to know Secure Boot")
    if rules.secure_boot_keys and rules.secure_boot is not True:
        fail(what, f"{path}.secure_boot_keys", 'means nothing without "secure_boot": true')
    for name, keys in rules.secure_boot_keys.items():
        for i, key in enumerate(keys):
            parse_hex(what, f"{path}.secure_boot_keys.{name}[{i}]", key, 32)


def _check_command_line(what: str, rules: Rules, quoted: tuple[int, ...], path: str) -> None:
    if rules.asks_command_line and not set(COMMAND_LINE_PCRS).issubset(quoted):
        needed = ", ".join(map(str, COMMAND_LINE_PCRS))
        fail(what, path, f"PCRs {needed} must all be quoted to know the kernel's command line")
    if rules.ima_policy and RUNTIME_PCR not in quoted:
        fail(what, f"{path}.ima_policy", f"PCR {RUNTIME_PCR} must be quoted to know what IMA measured")
    wanted = rules.command_line
    if wanted is None:
        return
    if not wanted.require and not wanted.forbid:
        fail(what, f"{path}.command_line", "requires and forbids nothing")
    for place, words in (("require", wanted.require), ("forbid", wanted.forbid)):
        for i, word in enumerate(words):
            if command_line_words(word) != (word,):
                fail(what, f"{path}.command_line.{place}[{i}]", "is not one word as the kernel reads it")


def _check_endorsers(what: str, endorsers: Endorsers, path: str) -> None:
    for i, key in enumerate(endorsers.keys):
        parse_hex(what, f"{path}.keys[{i}]", key, 32)
    if len(set(endorsers.keys)) != len(endorsers.keys):
        fail(what, f"{path}.keys", "repeats a key")
    if endorsers.threshold > len(endorsers.keys):
        fail(what, f"{path}.threshold", f"only {len(endorsers.keys)} keys are named")
