"""Operations on whose word counts: endorsers of stacks, makers of TPMs, and profiles."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from msgspec import Meta

from watchword.authority.acts.inputs import read_certificate, read_crl, read_public
from watchword.authority.operations.desk import Answer, Desk, Document, Named, Nothing, Operation, Question, Text, one
from watchword.authority.store import CrlRow, EndorserRow
from watchword.crypto import dsse
from watchword.errors import MalformedError
from watchword.policy.profile import MAX_PROFILE_SIZE
from watchword.verify.crl import RevocationList
from watchword.verify.ek import EkClass

__all__ = ["OPERATIONS"]

EkKindName = Literal["hardware", "firmware", "virtual"]


class EndorserAdd(Question, frozen=True):
    """A public key (SubjectPublicKeyInfo, DER) whose signatures count; on ``stacks``, in ``pools`` only if given."""

    key: Document
    name: Text
    stacks: Annotated[tuple[Named, ...], Meta(max_length=64)] = ()
    pools: Annotated[tuple[Named, ...], Meta(max_length=64)] = ()


class EndorserOf(Question, frozen=True):
    """An endorser: its key's id, or the first digits of it."""

    key: Named


class ProfileAdd(Question, frozen=True):
    """A profile to keep."""

    document: Document


class ProfileOf(Question, frozen=True):
    """A profile: its id, or the first digits of it."""

    profile: Named


class AnchorAdd(Question, frozen=True):
    """A certificate authority (DER or PEM) that vouches for TPMs of this class."""

    certificate: Document
    ek_class: EkKindName
    label: Text


class FingerprintOf(Question, frozen=True):
    """An anchor or revocation list: SHA-256 of it, or the first digits."""

    fingerprint: Named


class CrlAdd(Question, frozen=True):
    """A maker's revocation list (DER or PEM), and its issuer's certificate when nobody here knows it."""

    crl: Document
    issuer: Document | None = None


class EkPinAdd(Question, frozen=True):
    """A TPM's public area (TPM2B_PUBLIC or TPMT_PUBLIC) to believe without a certificate."""

    public: Document
    ek_class: EkKindName
    label: Text


class EkOf(Question, frozen=True):
    """A pinned EK: its host id, or the first digits of it."""

    host: Named


# -- endorsers -----------------------------------------------------------------------------------------------------


def _endorser_add(desk: Desk, ask: EndorserAdd) -> Answer:
    stacks, pools = frozenset(ask.stacks) or None, frozenset(ask.pools) or None
    return _endorser(desk.admin.add_endorser(_public_key(ask.key), ask.name, stacks=stacks, pools=pools))


def _public_key(spki: bytes) -> dsse.PublicKey:
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("public key: it is no SubjectPublicKeyInfo in DER") from None
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise MalformedError("public key: it is neither Ed25519 nor P-256 nor P-384")
    dsse.key_type(key)
    return key


def _endorser_list(desk: Desk, _ask: Nothing) -> Answer:
    return {"endorsers": [_endorser(row) for row in desk.store.endorsers()]}


def _endorser_remove(desk: Desk, ask: EndorserOf) -> Answer:
    found = one(desk.store.endorsers(), ask.key, lambda row: row.key_id, "endorser")
    desk.admin.remove_endorser(found.key_id)
    return {"removed": found.key_id}


def _endorser(row: EndorserRow) -> Answer:
    return {
        "key": row.key_id,
        "key_type": row.key_type,
        "name": row.name,
        "stacks": None if row.stacks is None else sorted(row.stacks),
        "pools": None if row.pools is None else sorted(row.pools),
        "added_at": row.added_at,
    }


# -- profiles ------------------------------------------------------------------------------------------------------


def _profile_add(desk: Desk, ask: ProfileAdd) -> Answer:
    row = desk.admin.add_profile(ask.document)
    return {"id": row.id.hex(), "name": row.name}


def _profile_list(desk: Desk, _ask: Nothing) -> Answer:
    rows = desk.store.profiles()
    return {
        "profiles": [
            {"name": row.name, "id": row.id.hex(), "added_at": row.added_at, "published": row.published} for row in rows
        ]
    }


def _profile_remove(desk: Desk, ask: ProfileOf) -> Answer:
    row = one(desk.store.profiles(), ask.profile, lambda row: row.id.hex(), "profile")
    desk.admin.remove_profile(row.id)
    return {"removed": row.id.hex()}


# -- makers of TPMs ------------------------------------------------------------------------------------------------


def _anchor_add(desk: Desk, ask: AnchorAdd) -> Answer:
    row = desk.admin.add_anchor(read_certificate(ask.certificate), EkClass(ask.ek_class), ask.label)
    return {"fingerprint": row.fingerprint.hex()}


def _anchor_list(desk: Desk, _ask: Nothing) -> Answer:
    bundles = desk.store.bundles()
    return {
        "anchors": [
            {
                "fingerprint": row.fingerprint.hex(),
                "class": str(row.anchor.ek_class),
                "label": row.anchor.label,
                "added_at": row.added_at,
                "bundles": [f"{each.name}@{each.serial}" for each in bundles if row.fingerprint in each.anchors],
            }
            for row in desk.store.anchors()
        ]
    }


def _anchor_remove(desk: Desk, ask: FingerprintOf) -> Answer:
    found = one(desk.store.anchors(), ask.fingerprint, lambda row: row.fingerprint.hex(), "anchor")
    desk.admin.remove_anchor(found.fingerprint)
    return {"removed": found.fingerprint.hex()}


def _crl_add(desk: Desk, ask: CrlAdd) -> Answer:
    issuer = read_certificate(ask.issuer) if ask.issuer is not None else None
    return _crl(desk, desk.admin.add_crl(read_crl(ask.crl), issuer))


def _crl_list(desk: Desk, _ask: Nothing) -> Answer:
    return {"crls": [_crl(desk, row) for row in desk.store.crls()]}


def _crl_remove(desk: Desk, ask: FingerprintOf) -> Answer:
    found = one(desk.store.crls(), ask.fingerprint, lambda row: row.fingerprint.hex(), "list")
    desk.admin.remove_crl(found.fingerprint)
    return {"removed": found.fingerprint.hex()}


def _crl(desk: Desk, row: CrlRow) -> Answer:
    return {
        "fingerprint": row.fingerprint.hex(),
        "issuer": row.issuer_name,
        "this_update": row.this_update,
        "next_update": row.next_update,
        "revoked": len(RevocationList.parse(row.crl).revoked),
        "added_at": row.added_at,
        "expired": row.next_update < desk.now,
    }


def _ek_pin(desk: Desk, ask: EkPinAdd) -> Answer:
    return {"host": desk.admin.pin_ek(read_public(ask.public), EkClass(ask.ek_class), ask.label).host_id.hex()}


def _ek_list(desk: Desk, _ask: Nothing) -> Answer:
    return {
        "pins": [
            {"host": p.host_id.hex(), "class": str(p.ek_class), "label": p.label, "added_at": p.added_at}
            for p in desk.store.pins()
        ]
    }


def _ek_unpin(desk: Desk, ask: EkOf) -> Answer:
    found = one(desk.store.pins(), ask.host, lambda pin: pin.host_id.hex(), "pinned EK")
    desk.admin.unpin_ek(found.host_id)
    return {"removed": found.host_id.hex()}


_CRL: Final = 4 << 20  # bytes of a request with a list, as base64

OPERATIONS: Final = (
    Operation("endorser list", "read-trust", Nothing, _endorser_list, changes=False),
    Operation("endorser add", "endorser", EndorserAdd, _endorser_add),
    Operation("endorser remove", "endorser", EndorserOf, _endorser_remove),
    Operation("profile list", "read-catalogue", Nothing, _profile_list, changes=False),
    Operation("profile add", "profile-add", ProfileAdd, _profile_add, limit=MAX_PROFILE_SIZE * 4 // 3 + 1024),
    Operation("profile remove", "profile-remove", ProfileOf, _profile_remove),
    Operation("anchor list", "read-trust", Nothing, _anchor_list, changes=False),
    Operation("anchor add", "anchor", AnchorAdd, _anchor_add),
    Operation("anchor remove", "anchor", FingerprintOf, _anchor_remove),
    Operation("crl list", "read-trust", Nothing, _crl_list, changes=False),
    Operation("crl add", "anchor", CrlAdd, _crl_add, limit=_CRL),
    Operation("crl remove", "anchor", FingerprintOf, _crl_remove),
    Operation("ek list", "read-trust", Nothing, _ek_list, changes=False),
    Operation("ek pin", "anchor", EkPinAdd, _ek_pin),
    Operation("ek unpin", "anchor", EkOf, _ek_unpin),
)
