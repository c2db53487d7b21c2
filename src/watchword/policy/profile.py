"""Profiles: what a tenant asks of a host, as ordered levels of rules.

A profile document (``docs/reference/profile-format.md``) is content-addressed: its id is the SHA-256 of its exact
bytes and travels sealed in the launch token, so nobody can soften it later. A profile that would accept any host or
any software does not parse (clause E1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from watchword.policy.document import DIGEST_NAMES, fail, load, located, parse_hex
from watchword.policy.profile_rules import Endorsers, Rules, check_rules
from watchword.policy.stack import RUNTIME_PCR, Name, Pcr, check_pcrs
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection, Selections

__all__ = ["MAX_PROFILE_SIZE", "Endorsers", "Level", "Profile", "Rules", "profile_schema"]

MAX_PROFILE_SIZE = 256 * 1024
DEFAULT_LOG_AHEAD = 1000  # runtime log entries that may follow the quoted ones
_WHAT = "profile"
_ALSO = {"sha1": Alg.SHA1}


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    rules: Rules


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["watchword-profile/1"]
    name: Name
    bank: str
    pcrs: Annotated[tuple[Pcr, ...], Meta(min_length=1, max_length=24)]
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=100)]
    max_log_ahead: Annotated[int, Meta(ge=0, le=1_000_000)] = DEFAULT_LOG_AHEAD
    also: dict[str, Annotated[tuple[Pcr, ...], Meta(min_length=1, max_length=24)]] = {}
    tpm_firmware: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1024)] | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile document. ``id`` is the SHA-256 of its bytes (32 bytes), ``levels`` are ordered lowest first.

    ``pcrs`` of ``bank`` are quoted, and ``also`` of further banks; ``max_log_ahead`` counts runtime log entries;
    ``tpm_firmware`` are the firmware versions that a quote may carry (None: any); ``asks_command_line`` tells whether
    a rule of any level is about the kernel's command line.
    """

    id: bytes
    name: str
    bank: Alg
    pcrs: tuple[int, ...]
    levels: tuple[Level, ...]
    max_log_ahead: int
    also: Selections
    tpm_firmware: frozenset[int] | None
    asks_command_line: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Profile:
        """Read a profile document of at most 256 KiB. Raises MalformedError with the place that is wrong."""
        document = load(data, _Document, _WHAT, MAX_PROFILE_SIZE)
        with located(data):
            return cls._compile(document, hashlib.sha256(data).digest())

    @classmethod
    def _compile(cls, document: _Document, identity: bytes) -> Profile:
        bank = DIGEST_NAMES.get(document.bank)
        if bank is None:
            fail(_WHAT, "bank", f"is not one of {', '.join(DIGEST_NAMES)}")
        check_pcrs(_WHAT, document.pcrs)
        if not set(document.pcrs) - {RUNTIME_PCR}:
            fail(_WHAT, "pcrs", "quotes no PCR of the boot, there would be nothing to bind a secret to")
        _check_levels(document)
        return cls(
            id=identity,
            name=document.name,
            bank=bank,
            pcrs=document.pcrs,
            levels=document.levels,
            max_log_ahead=document.max_log_ahead,
            also=_also(document, bank),
            tpm_firmware=_firmware(document.tpm_firmware),
            asks_command_line=any(level.rules.asks_command_line for level in document.levels),
        )

    def selections(self) -> Selections:
        """What the host must quote: the bank that is judged by, then the others that the log must explain too."""
        return (PcrSelection(self.bank, self.pcrs), *self.also)

    def boot_selections(self) -> Selections:
        """What a secret is sealed to: the quoted PCRs without the runtime log's, which moves all the time."""
        return (PcrSelection(self.bank, tuple(pcr for pcr in self.pcrs if pcr != RUNTIME_PCR)),)

    def rank_of(self, level: str) -> int | None:
        """The rank of a level by name, 1 for the lowest; None when there is no such level."""
        ranks: Mapping[str, int] = {entry.name: rank for rank, entry in enumerate(self.levels, 1)}
        return ranks.get(level)


def _also(document: _Document, bank: Alg) -> Selections:
    """The further banks, in the order of their numbers: SHA-1 is welcome here, where nothing rests on it."""
    found = []
    for name, pcrs in document.also.items():
        alg = (_ALSO | DIGEST_NAMES).get(name)
        if alg is None or alg is bank:
            fail(_WHAT, f"also.{name}", f"is not another one of {', '.join({**_ALSO, **DIGEST_NAMES})}")
        check_pcrs(_WHAT, pcrs)
        if RUNTIME_PCR in pcrs:
            fail(_WHAT, f"also.{name}", f"PCR {RUNTIME_PCR} is judged in the profile's own bank")
        found.append(PcrSelection(alg, pcrs))
    return tuple(sorted(found, key=lambda selection: selection.bank))


def _check_levels(document: _Document) -> None:
    names: set[str] = set()
    for i, level in enumerate(document.levels):
        if level.name in names:
            fail(_WHAT, f"levels[{i}].name", f"{level.name} is already used")
        names.add(level.name)
        check_rules(_WHAT, level.rules, document.pcrs, f"levels[{i}].rules")


def _firmware(versions: tuple[str, ...] | None) -> frozenset[int] | None:
    if versions is None:
        return None
    return frozenset(int.from_bytes(parse_hex(_WHAT, f"tpm_firmware[{i}]", text, 8)) for i, text in enumerate(versions))


def profile_schema(template: str) -> dict[str, Any]:
    """The JSON Schemas of a profile and its parts by name, "Profile" among them; ``template`` leads to one ("{name}").

    A document that does not fit is no profile; one that fits may still contradict itself.
    """
    _, schemas = msgspec.json.schema_components([_Document], ref_template=template)
    return {"Profile" if name == _Document.__name__ else name: schema for name, schema in schemas.items()}
