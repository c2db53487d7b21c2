"""PCR 7: the Secure Boot policy, and the entry of db that let a program run.

Source: PFP 1.06, section 3.3.4.8; EDK2, SecurityPkg/Library/DxeTpm2MeasureBootLib and DxeImageVerificationLib. An entry
of db is measured the first time that it vouches for a program, and not again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from watchword.errors import UsageError
from watchword.reference.boot.authenticode import Signed, read_signatures, tbs_digest, vouching_path
from watchword.reference.boot.events import Measure, Predicted
from watchword.reference.boot.variables import GUIDS, ORDER
from watchword.wire.pe import PeImage
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.uefi import DB, GLOBAL_VARIABLE, Signature, UefiVariable, parse_signatures

__all__ = ["Authorities", "SecureBoot", "authority", "policy"]

_SEPARATOR = bytes(4)


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """Whether firmware enforces signatures, and the content of its key databases by name ("PK", "KEK", "db", …)."""

    on: bool
    databases: Mapping[str, bytes] = field(default_factory=dict)


def policy(measure: Measure, state: SecureBoot) -> list[Predicted]:
    """SecureBoot, the key databases and the separator, in EDK2's order."""
    found = [_variable(measure, GLOBAL_VARIABLE, "SecureBoot", bytes([state.on]))]
    for name in ORDER:
        if state.databases.get(name) or name not in ("dbt", "dbr"):
            found.append(_variable(measure, GUIDS[name], name, state.databases.get(name, b"")))
    return [*found, measure.data(7, _SEPARATOR, "separator")]


def _variable(measure: Measure, guid: uuid.UUID, name: str, content: bytes) -> Predicted:
    size = f", {len(content)} bytes" if len(content) > 1 else f" {content.hex() or 'empty'}"
    return measure.data(7, UefiVariable(guid, name, content).encode(), f"Secure Boot variable {name}{size}")


def authority(measure: Measure, guid: uuid.UUID, name: str, entry: bytes, note: str) -> Predicted:
    """EV_EFI_VARIABLE_AUTHORITY: the entry (owner and certificate or digest) that vouched for something."""
    return measure.data(7, UefiVariable(guid, name, entry).encode(), note)


class Authorities:
    """Which entries of db vouch for the programs of one boot, one program after the other."""

    def __init__(self, measure: Measure, state: SecureBoot) -> None:
        self._measure, self._state = measure, state
        self._seen: set[bytes] = set()
        self._db = parse_signatures(state.databases.get("db", b""))
        self._dbx = parse_signatures(state.databases.get("dbx", b""))

    def of(self, image: PeImage, what: str) -> list[Predicted]:
        """The events when firmware verifies ``image``: none with Secure Boot off, or when its entry was measured.

        Raises UsageError when firmware would not start it, MalformedError for a signature that cannot be read.
        """
        if not self._state.on:
            return []
        entry = self._entry(image, read_signatures(image), what)
        data = entry.owner.bytes_le + entry.data
        if data in self._seen:
            return []
        self._seen.add(data)
        return [authority(self._measure, DB, "db", data, f"{what}: allowed by the {entry.type} entry {_short(entry)}")]

    def vouches(self, image: PeImage) -> bool:
        """Whether any entry of db allows ``image``."""
        return self._allowing(image, read_signatures(image)) is not None

    def _entry(self, image: PeImage, signatures: tuple[Signed, ...], what: str) -> Signature:
        revoked = [s for s in self._dbx if s.type == "sha256" and s.data == image.digest(Alg.SHA256)]
        if revoked or any(self._revoked(signed) for signed in signatures):
            raise UsageError("secure-boot", f"{what}: dbx revokes it, so firmware would not start it")
        found = self._allowing(image, signatures)
        if found is None:
            raise UsageError(
                "secure-boot",
                f"{what}: no entry of db vouches for it, so firmware would not start it",
                hint="sign it with a key whose certificate is in db, or set the state to off",
            )
        return found

    def _allowing(self, image: PeImage, signatures: tuple[Signed, ...]) -> Signature | None:
        for signed in signatures:
            for entry in self._db:
                if entry.type == "x509" and vouching_path(signed, entry.data) is not None:
                    return entry
        digest = image.digest(Alg.SHA256)
        return next((entry for entry in self._db if entry.type == "sha256" and entry.data == digest), None)

    def _revoked(self, signed: Signed) -> bool:
        for entry in self._dbx:
            if entry.type == "x509" and vouching_path(signed, entry.data) is not None:
                return True
            if entry.type == "x509-sha256" and entry.data[:32] in map(tbs_digest, (signed.signer, *signed.others)):
                return True
        return False


def _short(entry: Signature) -> str:
    return f"of owner {entry.owner}"
