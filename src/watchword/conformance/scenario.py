"""The format of the attack suite: one file, one piece of evidence, and what a verifier has to say about it.

A file has two halves. ``inputs`` is everything that a verifier is given, trusted and untrusted, and nothing else;
the rest says what was done and what the answer must be, and is never shown to the verifier. Bytes are base64. A log
may lie beside the files, in ``blobs/``, and be named by its SHA-256. ``docs/reference/attack-suite.md`` is the
reference of the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from watchword.errors import MalformedError, UsageError
from watchword.policy.document import fail, load
from watchword.verify.ek import EkClass
from watchword.wire.tpm.templates import EkKind

__all__ = [
    "FORMAT",
    "Anchor",
    "Bank",
    "Blob",
    "Broken",
    "Credential",
    "Ek",
    "Evidence",
    "Expected",
    "Inputs",
    "LastSeen",
    "Pin",
    "Request",
    "RuntimeSeen",
    "Scenario",
    "Selection",
    "Template",
    "load_suite",
    "read_scenario",
]

FORMAT: Final = "watchword-attack/1"
MAX_FILE = 4 << 20  # bytes of one scenario or blob
_MAX_SCENARIOS = 1000
_WHAT = "scenario"

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Hex = Annotated[str, Meta(pattern=r"^([0-9a-f]{2})*$", max_length=256)]
Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Count = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Bank = Literal["sha1", "sha256", "sha384", "sha512"]
Template = Literal["RSA2048", "P256", "RSA2048_H", "P256_H", "P384", "RSA3072", "RSA4096"]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Blob(_Struct, frozen=True, kw_only=True):
    """Bytes that lie in ``blobs/``, a file named by its SHA-256 in hexadecimal."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Anchor(_Struct, frozen=True, kw_only=True):
    """A certificate (DER) of an authority that the verifier trusts for TPMs of one class."""

    ek_class: EkClass = msgspec.field(name="class")
    label: Text
    certificate: bytes


class Pin(_Struct, frozen=True, kw_only=True):
    """An endorsement key (TPMT_PUBLIC) that the verifier trusts without a certificate."""

    ek_class: EkClass = msgspec.field(name="class")
    public: bytes


class Ek(_Struct, frozen=True, kw_only=True):
    """What the host shows of its endorsement key: a certificate, or without one the public area (TPMT_PUBLIC)."""

    template: Template
    certificate: bytes | None
    intermediates: Annotated[tuple[bytes, ...], Meta(max_length=8)] = ()
    public: bytes | None = None

    @property
    def kind(self) -> EkKind:
        return EkKind[self.template]


class Credential(_Struct, frozen=True, kw_only=True):
    """The 32-byte secret that the verifier wrapped for this EK and AK (TPM2_MakeCredential), and what came back."""

    expected: Annotated[bytes, Meta(min_length=32, max_length=32)]
    answer: bytes


class Selection(_Struct, frozen=True, kw_only=True):
    """PCRs of one bank, ascending."""

    bank: Bank
    pcrs: tuple[Annotated[int, Meta(ge=0, le=23)], ...]


class LastSeen(_Struct, frozen=True, kw_only=True):
    """The newest clock information that the verifier remembers of this TPM; ``clock`` is in milliseconds."""

    reset_count: Count
    restart_count: Count
    clock: Number
    safe: bool


class RuntimeSeen(_Struct, frozen=True, kw_only=True):
    """What the verifier remembers of this boot's runtime log: so many entries led PCR 10 to this value."""

    reset_count: Count
    entries: Count
    pcr10: Hex


class Request(_Struct, frozen=True, kw_only=True):
    """What the verifier asked for, demands and remembers.

    ``qualifying_data`` (32 bytes) is to stand in extraData, ``selection`` is what was asked for, the logs are judged
    in ``bank``, at most ``max_ahead`` runtime entries may follow the quote, ``firmware_allowed`` are firmware versions
    in hexadecimal (null: any).
    """

    qualifying_data: Annotated[bytes, Meta(min_length=32, max_length=32)]
    selection: Annotated[tuple[Selection, ...], Meta(min_length=1, max_length=4)]
    bank: Bank
    max_ahead: Count = 0
    last_seen: LastSeen | None = None
    runtime_seen: RuntimeSeen | None = None
    firmware_allowed: tuple[Hex, ...] | None = None


class Evidence(_Struct, frozen=True, kw_only=True):
    """What the host sent: TPMS_ATTEST, TPMT_SIGNATURE, the PCR values it claims (bank: PCR: hex) and the two logs.

    There is no ``ima_log`` where PCR 10 was not asked for.
    """

    attest: bytes
    signature: bytes
    pcrs: dict[str, dict[str, Hex]]
    event_log: bytes | Blob
    ima_log: bytes | Blob | None = None


class Inputs(_Struct, frozen=True, kw_only=True):
    """Everything that a verifier is given.

    It trusts ``anchors`` and ``pins`` for TPMs of their class, accepts TPMs of ``classes``, and judges at ``time``
    (Unix seconds). ``request`` and ``evidence`` are null when only an enrolment is to be judged.
    """

    anchors: tuple[Anchor, ...]
    pins: tuple[Pin, ...] = ()
    classes: Annotated[tuple[EkClass, ...], Meta(min_length=1)]
    time: Number
    ek: Ek
    ak_public: bytes
    credential: Credential
    request: Request | None = None
    evidence: Evidence | None = None


class Broken(_Struct, frozen=True, kw_only=True):
    """The one thing in which an attack differs from its control, and in a sentence how."""

    thing: Name
    text: Text


class Expected(_Struct, frozen=True, kw_only=True):
    """The right answer; clause and code are Watchword's. ``unmistakable``: no verifier can have a reason to accept."""

    verdict: Literal["accept", "reject"]
    clause: str = ""
    code: str = ""
    unmistakable: bool = False


class Scenario(_Struct, frozen=True, kw_only=True):
    """One file. A control has no ``broken`` and no ``control`` of its own."""

    format: Literal["watchword-attack/1"] = FORMAT
    name: Name
    title: Text
    attack: str
    kind: Literal["evidence", "enrolment"]
    control: Name | None = None
    broken: Broken | None = None
    expected: Expected
    inputs: Inputs

    def question(self) -> bytes:
        """What another verifier gets to see, as one line of JSON."""
        question = {"format": FORMAT, "kind": self.kind, "inputs": self.inputs}
        return msgspec.json.encode(question) + b"\n"


def read_scenario(path: Path) -> Scenario:
    """Read one file and the blobs it names. Raises MalformedError, and OSError for what cannot be read."""
    scenario = load(_read(path), Scenario, f"{_WHAT} {path.name}", MAX_FILE)
    if scenario.name != path.stem:
        fail(f"{_WHAT} {path.name}", "name", "is not that of the file")
    inputs = scenario.inputs
    complete = inputs.request is not None and inputs.evidence is not None
    absent = inputs.request is None and inputs.evidence is None
    if not (complete if scenario.kind == "evidence" else absent):
        fail(f"{_WHAT} {path.name}", "inputs", "does not have the parts of its kind")
    if inputs.evidence is None:
        return scenario
    logs = {name: _resolve(getattr(inputs.evidence, name), path) for name in ("event_log", "ima_log")}
    evidence = msgspec.structs.replace(inputs.evidence, **logs)
    return msgspec.structs.replace(scenario, inputs=msgspec.structs.replace(inputs, evidence=evidence))


def _resolve(log: bytes | Blob | None, path: Path) -> bytes | None:
    if not isinstance(log, Blob):
        return log
    data = _read(path.parent / "blobs" / log.sha256)
    if hashlib.sha256(data).hexdigest() != log.sha256:
        raise MalformedError(f"{_WHAT} {path.name}: blob {log.sha256} has another content")
    return data


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise MalformedError(
            f"{path.name}: is longer than the {MAX_FILE} bytes that are allowed", code="file-too-large"
        )
    return data


def load_suite(folder: Path, patterns: Sequence[str] = ()) -> list[Scenario]:
    """The scenarios of ``folder`` whose names match one of ``patterns`` (all without any), by name.

    A pattern may have ``*`` and ``?``. Raises UsageError (``scenario-unknown``) when a pattern matches nothing, and
    whatever :func:`read_scenario` raises.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.json"))[:_MAX_SCENARIOS]}
    for pattern in patterns or ("*",):
        if not any(fnmatchcase(name, pattern) for name in files):
            raise UsageError("scenario-unknown", f"no scenario in {folder} is called {pattern}")
    wanted = [name for name in files if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    return [read_scenario(files[name]) for name in wanted]
