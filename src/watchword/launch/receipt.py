"""Decisions as the authority records them, and receipts as a tenant keeps them.

Every release and every refusal becomes one *decision*: a JSON text that is appended to the authority's log before
anything leaves. A *receipt* is that exact text with what proves its place in the log: the salt and public leaf that it
went in as, an inclusion proof and a signed checkpoint. All of it is signed by the authority. It names no host, only a
pseudonym that is different for every profile, and it carries no secret.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from watchword.crypto import dsse
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.log import VerifiedCheckpoint, check_inclusion, verify_checkpoint
from watchword.wire.log_leaf import SALT_SIZE, LogLeaf, commitment, index_key, tag
from watchword.wire.merkle import HASH_SIZE, MAX_SIZE

__all__ = [
    "MAX_DECISION",
    "PAYLOAD_TYPE",
    "Decision",
    "FindingRecord",
    "LogPosition",
    "Receipt",
    "ShareRecord",
    "StackRecord",
    "launch_key",
    "make_receipt",
    "verify_receipt",
]

PAYLOAD_TYPE = "application/vnd.watchword.receipt+json"
MAX_DECISION = 128 * 1024  # bytes
_MAX_RECEIPT = 512 * 1024
_DECISION_FORMAT = "watchword-decision/1"
_RECEIPT_FORMAT = "watchword-receipt/2"
_MAX_PROOF = 64
_T = TypeVar("_T")


class StackRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stack release that a host matched.

    ``digest`` is the SHA-256 of its document, hex; ``origin`` "computed" from artifacts or "captured" from a host.
    """

    name: str
    version: str
    digest: str
    origin: str = ""


class ShareRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a decision is about share ``index`` of ``count``, of which ``threshold`` give the secret.

    ``run`` names the attempt of one host to collect them, 16 bytes hex; "" when it was asked for as no share.
    """

    index: int
    threshold: int
    count: int
    run: str


class FindingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding as a decision keeps it."""

    clause: str
    code: str
    message: str
    expected: str = ""
    actual: str = ""
    subject: str = ""

    @classmethod
    def of(cls, finding: Finding) -> FindingRecord:
        # What the clauses of identity compare are the host's id and keys; a receipt knows a host by pseudonym only.
        shown = not finding.clause.startswith("A")
        return cls(
            finding.clause,
            finding.code,
            _clip(finding.message),
            _clip(finding.expected) if shown else "",
            _clip(finding.actual) if shown else "",
            _clip(finding.subject) if shown else "",
        )


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the authority decided about one request for one token.

    ``outcome`` "released" or "refused"; ``time`` Unix seconds; ``launch`` :func:`launch_key` hex; ``token`` token id
    hex; ``profile``, ``inputs`` hex; ``level`` the level reached ("" for none) and ``rank`` its number from 1;
    ``required`` the rank that the token demands; ``host`` the pseudonym, hex; ``releases`` how many there were with
    this one, of ``allowed``; ``lease`` seconds that the release can be opened; ``evidence`` SHA-256 of the quote, hex;
    ``status`` and ``vector`` the attestation result in the words of AR4SI (``policy.trustworthiness``).
    ``share`` is there when the token held a share of a secret, and only then.
    """

    format: str = _DECISION_FORMAT
    outcome: str
    time: int
    launch: str
    token: str
    instance: str
    profile: str
    inputs: str
    level: str
    rank: int
    required: int
    stack: StackRecord | None
    host: str
    releases: int
    allowed: int
    lease: int
    evidence: str
    findings: tuple[FindingRecord, ...] = ()
    status: str = "none"
    vector: dict[str, int] = {}
    share: ShareRecord | msgspec.UnsetType = msgspec.UNSET

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, data: bytes) -> Decision:
        """Read a decision. Raises :class:`MalformedError`."""
        decision = _decode(data, cls, "decision", MAX_DECISION)
        if decision.format != _DECISION_FORMAT or decision.outcome not in ("released", "refused"):
            raise MalformedError("decision: unknown format or outcome")
        return decision


class LogPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a decision stands in the log, and what proves it; all bytes in hex.

    ``index`` from 0; ``number`` counts the decisions about this launch, from 1; ``salt`` (32 bytes) opens the
    commitment in ``leaf``, which is what everybody sees; ``proof`` leads from it to the root in ``checkpoint``, a
    signed note with whatever cosignatures it had.
    """

    index: int
    number: int
    salt: str
    leaf: str
    proof: tuple[str, ...]
    checkpoint: str

    @property
    def seq(self) -> int:
        """The number of the entry as people count: from 1."""
        return self.index + 1


class _ReceiptDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    authority: str
    entry: str
    log: LogPosition


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified receipt: the ``decision``, its place in the log, the ``authority`` and the key that signed.

    ``checkpoint`` is None for a receipt that nobody verified.
    """

    authority: str
    decision: Decision
    log: LogPosition
    checkpoint: VerifiedCheckpoint | None
    key_ids: frozenset[str]
    envelope: bytes


def _clip(text: str, limit: int = 400) -> str:
    """Evidence is untrusted and the log is for ever: short, and nothing that cannot be written as UTF-8."""
    return text[:limit].encode("utf-8", "backslashreplace").decode()


def launch_key(launch_id: bytes) -> bytes:
    """The 32 bytes under which decisions of a launch are filed: knowing them does not tell the launch id."""
    return hashlib.sha256(b"watchword/launch/1\0" + launch_id).digest()


def make_receipt(authority: str, entry: bytes, position: LogPosition, key: Ed25519Signer) -> bytes:
    """The signed receipt for the log entry at ``position``, whose exact bytes are ``entry``."""
    document = _ReceiptDocument(_RECEIPT_FORMAT, authority, entry.decode(), position)
    return dsse.sign(msgspec.json.encode(document), PAYLOAD_TYPE, [key])


def verify_receipt(envelope: bytes, keys: KeyList) -> Receipt:
    """Check a receipt against an authority's keys, offline.

    Raises :class:`MalformedError`, or :class:`Rejected` with ``document-signature``, ``document-signers``,
    ``receipt-authority``, ``receipt-commitment``, ``receipt-tag``, ``log-inclusion`` or ``checkpoint-…``.
    """
    signed = dsse.verify(envelope, PAYLOAD_TYPE, keys.receipt_keys(), 1, max_size=_MAX_RECEIPT)
    document = _decode(signed.payload, _ReceiptDocument, "receipt", _MAX_RECEIPT)
    if document.format != _RECEIPT_FORMAT:
        raise MalformedError("receipt: unknown format")
    if document.authority != keys.authority:
        raise Rejected(
            Finding(
                "R1", "receipt-authority", "the receipt is from another authority", keys.authority, document.authority
            )
        )
    entry = document.entry.encode()
    decision = Decision.parse(entry)
    checkpoint = _check_position(document.log, entry, decision, keys)
    return Receipt(document.authority, decision, document.log, checkpoint, signed.key_ids, envelope)


def _check_position(log: LogPosition, entry: bytes, decision: Decision, keys: KeyList) -> VerifiedCheckpoint:
    leaf, proof = _bytes(log.leaf), [_bytes(each) for each in log.proof]
    if not (0 <= log.index < MAX_SIZE and 1 <= log.number < MAX_SIZE) or len(proof) > _MAX_PROOF:
        raise MalformedError("receipt: there is no such place in a log")
    opened = LogLeaf.parse(leaf)
    actual = commitment(_bytes(log.salt, SALT_SIZE), entry)
    if actual != opened.commitment:
        raise Rejected(
            Finding(
                "R2", "receipt-commitment", "the decision is not the one that was logged",
                opened.commitment.hex(), actual.hex(),
            )
        )  # fmt: skip
    marked = tag(index_key(_bytes(decision.launch, HASH_SIZE)), log.number)
    if marked != opened.tag:
        raise Rejected(
            Finding(
                "R3", "receipt-tag", "the entry is filed where its launch does not look", marked.hex(), opened.tag.hex()
            )
        )
    checkpoint = verify_checkpoint(log.checkpoint.encode(), keys)
    check_inclusion(log.index, leaf, proof, checkpoint.checkpoint)
    return checkpoint


def _bytes(text: str, size: int | None = None) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise MalformedError("receipt: not hexadecimal") from None
    if size is not None and len(data) != size:
        raise MalformedError(f"receipt: {len(data)} bytes where {size} are needed")
    return data


def _decode(data: bytes, kind: type[_T], what: str, limit: int) -> _T:
    if len(data) > limit:
        raise MalformedError(f"{what}: {len(data)} bytes, at most {limit} are allowed")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{what}: {error}") from None
