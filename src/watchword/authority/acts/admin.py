"""What an operator may change. Every act becomes an entry of the decision record, in the same transaction.

The command line works on the data directory while the service runs; the service sees the change at its next request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.authority.acts.endorsement import open_stack
from watchword.authority.acts.revocation import check_list
from watchword.authority.acts.stacks import StackAdmin
from watchword.authority.acts.texts import MAX_TEXT, short_text
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import (
    AnchorRow,
    BundleRow,
    CrlRow,
    EkPin,
    EndorserRow,
    Host,
    ProfileRow,
    StackRow,
    StackRule,
    Store,
    Transaction,
)
from watchword.crypto import dsse
from watchword.errors import UsageError
from watchword.policy.profile import Profile
from watchword.verify.certificate import Certificate
from watchword.verify.chain import issuer_fault
from watchword.verify.ek import EkClass, TrustAnchor, host_id, verify_pinned_ek
from watchword.verify.roots import RootBundle
from watchword.wire.tpm.public import Public

__all__ = ["Admin"]


class _Undone(Exception):
    """Ends a transaction that was only to show whether it could be."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Acts of ``actor`` (how the operator is named in the record) at ``now`` (Unix seconds) on ``store``."""

    store: Store
    now: int
    actor: str

    # -- whose TPMs are believed ------------------------------------------------------------------------------

    def add_anchor(self, certificate: Certificate, ek_class: EkClass, label: str) -> AnchorRow:
        """Believe EK certificates below ``certificate``, whatever its own time.

        Raises :class:`UsageError` (``anchor-not-ca``) when it may not certify endorsement keys (A1).
        """
        _require_issuer(certificate)
        der = certificate.der
        row = AnchorRow(hashlib.sha256(der).digest(), TrustAnchor(der, ek_class, short_text(label)), self.now)
        with self.store.transaction() as tx:
            tx.put_anchor(row)
            self._record(tx, "anchor-add", row.fingerprint.hex(), ek_class=str(ek_class), label=label)
        return row

    def import_bundle(self, document: bytes, *, dry_run: bool = False) -> BundleRow:
        """Believe the anchors of a root bundle, and keep its intermediates: all of it, or nothing.

        With ``dry_run`` everything is checked and nothing changed.
        Raises MalformedError (``roots-malformed``), :class:`UsageError` (``roots-rollback``, ``roots-changed``,
        ``anchor-class``).
        """
        bundle = RootBundle.parse(document)
        row = BundleRow(bundle.name, bundle.serial, hashlib.sha256(document).digest(), self.now)
        anchors = len(bundle.anchors())
        with suppress(_Undone), self.store.transaction() as tx:
            tx.put_bundle(row, bundle.roots)
            self._record(
                tx,
                "anchor-import",
                row.digest.hex(),
                name=row.name,
                serial=row.serial,
                anchors=anchors,
                intermediates=len(bundle.roots) - anchors,
            )
            if dry_run:
                raise _Undone
        return row

    def remove_anchor(self, fingerprint: bytes) -> None:
        """Stop believing a certificate authority."""
        with self.store.transaction() as tx:
            tx.remove_anchor(fingerprint)
            self._record(tx, "anchor-remove", fingerprint.hex())

    def add_crl(self, crl: bytes, issuer: Certificate | None = None) -> CrlRow:
        """Let a maker's revocation list (DER) decide over enrolments, in place of an older one of that issuer.

        Raises MalformedError (``crl-malformed``), :class:`UsageError` (``crl-issuer``, ``crl-unusable``,
        ``crl-older``, ``crl-full``).
        """
        row = check_list(crl, issuer, self.store, self.now)
        with self.store.transaction() as tx:
            tx.put_crl(row)
            self._record(
                tx, "crl-add", row.fingerprint.hex(), issuer=row.issuer_name[:MAX_TEXT], this_update=row.this_update
            )
        return row

    def remove_crl(self, fingerprint: bytes) -> None:
        """Stop using a revocation list."""
        with self.store.transaction() as tx:
            tx.remove_crl(fingerprint)
            self._record(tx, "crl-remove", fingerprint.hex())

    def pin_ek(self, public: Public, ek_class: EkClass, label: str) -> EkPin:
        """Believe this one EK without a certificate. Raises :class:`Rejected` (A2) when it cannot be an EK."""
        verify_pinned_ek(public, {host_id(public): ek_class})
        pin = EkPin(host_id(public), public.encode(), ek_class, short_text(label), self.now)
        with self.store.transaction() as tx:
            tx.put_pin(pin)
            self._record(tx, "ek-pin", pin.host_id.hex(), ek_class=str(ek_class), label=label)
        return pin

    def unpin_ek(self, identity: bytes) -> None:
        """Stop believing a pinned EK."""
        with self.store.transaction() as tx:
            tx.remove_pin(identity)
            self._record(tx, "ek-unpin", identity.hex())

    def revoke_host(self, identity: bytes, reason: str) -> Host:
        """Withdraw an enrolled host for good (A5)."""
        with self.store.transaction() as tx:
            tx.revoke_host(identity, short_text(reason), self.now)
            self._record(tx, "host-revoke", identity.hex(), reason=reason)
        host = self.store.host(identity)
        assert host is not None  # it was just updated, and hosts are never deleted
        return host

    # -- what they may run --------------------------------------------------------------------------------------

    def add_endorser(
        self,
        key: dsse.PublicKey,
        name: str,
        *,
        stacks: frozenset[str] | None = None,
        pools: frozenset[str] | None = None,
    ) -> EndorserRow:
        """Count this key's signatures on stacks, on those that are here already too; only on ``stacks`` and ``pools``
        where these are given. An endorser that is known gets the new name and limits."""
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        row = EndorserRow(dsse.key_id(key), dsse.key_type(key), spki, short_text(name), self.now, stacks, pools)
        with self.store.transaction() as tx:
            tx.put_endorser(row)
            for stack in self.store.stacks():  # nobody else can add one before we are done
                tx.remove_endorsement(stack.digest, row.key_id)
                if row.may_endorse(stack.name, stack.pool) and _signed(stack, {row.key_id: key}):
                    tx.put_endorsement(stack.digest, row.key_id)
            limits = {"stacks": sorted(stacks or ()), "pools": sorted(pools or ())}
            self._record(tx, "endorser-add", row.key_id, name=name, key_type=row.key_type, **limits)
        return row

    def remove_endorser(self, key_id: str) -> None:
        """Stop counting a key's signatures on stacks."""
        with self.store.transaction() as tx:
            tx.remove_endorser(key_id)
            self._record(tx, "endorser-remove", key_id)

    @property
    def stacks(self) -> StackAdmin:
        """Acts on stack releases."""
        return StackAdmin(self.store, self.now, self.actor)

    def set_stack_rule(self, name: str, pool: str, keys: frozenset[str], threshold: int) -> StackRule:
        """Let releases of stack ``name`` in ``pool`` need signatures by ``threshold`` of ``keys`` (ids of endorsers).

        Releases that are here stay as they are. Raises :class:`UsageError` (``stack-rule``).
        """
        if not 1 <= threshold <= len(keys):
            raise UsageError("stack-rule", f"{threshold} of {len(keys)} endorsers is no rule")
        rule = StackRule(name, pool, threshold, keys, self.now)
        with self.store.transaction() as tx:
            tx.put_stack_rule(rule)
            self._record(tx, "stack-rule-set", name, pool=pool, threshold=threshold, keys=sorted(keys))
        return rule

    def remove_stack_rule(self, name: str, pool: str) -> None:
        """Ask for any one endorser again."""
        with self.store.transaction() as tx:
            tx.remove_stack_rule(name, pool)
            self._record(tx, "stack-rule-remove", name, pool=pool)

    def add_profile(self, document: bytes) -> ProfileRow:
        """Keep a profile under the hash of its exact bytes. Raises :class:`MalformedError` (E1)."""
        profile = Profile.parse(document)
        row = ProfileRow(hashlib.sha256(document).digest(), document, profile.name, self.now)
        with self.store.transaction() as tx:
            tx.put_profile(row)
            self._record(tx, "profile-add", row.id.hex(), name=row.name)
        return row

    def remove_profile(self, profile_id: bytes) -> None:
        """Forget a profile: tokens that name it are refused from now on."""
        with self.store.transaction() as tx:
            tx.remove_profile(profile_id)
            self._record(tx, "profile-remove", profile_id.hex())

    # -- how hosts are watched -----------------------------------------------------------------------------------

    def watch(self, profile_id: bytes) -> None:
        """Judge all hosts by this profile whenever they attest. Raises :class:`UsageError` (``profile-unknown``)."""
        with self.store.transaction() as tx:
            tx.put_watched(profile_id, self.now)
            self._record(tx, "watch-add", profile_id.hex())

    def unwatch(self, profile_id: bytes) -> None:
        """Stop judging all hosts by this profile. Raises :class:`UsageError` (``watch-unknown``)."""
        with self.store.transaction() as tx:
            tx.remove_watched(profile_id)
            self._record(tx, "watch-remove", profile_id.hex())

    def accept_host(self, identity: bytes, reason: str) -> None:
        """Take what a host is worth now as its best, so that it is not degraded any more."""
        with self.store.transaction() as tx:
            tx.forget_best(identity)
            self._record(tx, "host-accept", identity.hex(), reason=short_text(reason))

    # -- keys -----------------------------------------------------------------------------------------------------

    def change_keys(
        self, act: str, ring: Keyring, change: Callable[[int], Keyring], *, requested: bool = False, **details: Any
    ) -> Keyring:
        """Change keys with one of the methods of ``ring``; ``requested`` when the root must sign that elsewhere first.

        The record comes first and tells the list that the change starts from: killed in between, there is an entry
        about a rotation that did not happen, never a rotation without an entry.
        """
        with self.store.transaction() as tx:
            if requested:
                self._record(
                    tx, "keys-request", ring.fingerprint, from_version=ring.key_list.version, change=act, **details
                )
            else:
                self._record(tx, act, ring.fingerprint, from_version=ring.key_list.version, **details)
        return change(self.now)

    def record(self, act: str, subject: str, **details: Any) -> None:
        """Put an act that changes nothing in the store on record."""
        with self.store.transaction() as tx:
            self._record(tx, act, subject, **details)

    def _record(self, tx: Transaction, act: str, subject: str, **details: Any) -> None:
        tx.append_act(self.now, act, subject, by=self.actor, **details)


def _signed(stack: StackRow, keys: dict[str, dsse.PublicKey]) -> bool:
    return stack.envelope is not None and bool(open_stack(stack.envelope, keys)[1])


def _require_issuer(certificate: Certificate) -> None:
    fault = issuer_fault(certificate, None)
    if fault:
        raise UsageError(
            "anchor-not-ca",
            f"this certificate can be no trust anchor: {fault}",
            hint="give the maker's root or intermediate certificate, not that of a TPM",
        )
