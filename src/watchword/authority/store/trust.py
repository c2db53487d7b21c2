"""The part of a transaction that changes who is believed: anchors, root bundles, revocation lists, pins, endorsers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from watchword.authority.store import schema
from watchword.authority.store.rows import AnchorRow, BundleRow, CrlRow, EkPin, EndorserRow
from watchword.authority.store.upsert import upsert
from watchword.errors import UsageError
from watchword.verify.ek import TrustAnchor
from watchword.verify.roots import Root

__all__ = ["MAX_CRLS", "TrustTransaction"]

MAX_CRLS: Final = 256  # as many as verify.ek keeps parsed


class TrustTransaction:
    """See :class:`~watchword.authority.store.Transaction`, which is this and everything else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put_anchor(self, row: AnchorRow) -> None:
        """Believe EK certificates below this certificate."""
        values = {
            "certificate": row.anchor.certificate_der,
            "ek_class": str(row.anchor.ek_class),
            "label": row.anchor.label,
            "added_at": row.added_at,
        }
        self._upsert(schema.anchors, {"fingerprint": row.fingerprint}, values)
        self._next_generation()

    def remove_anchor(self, fingerprint: bytes) -> None:
        """Stop believing this certificate; hosts that are enrolled already stay until they are revoked."""
        self._remove(schema.anchors, "fingerprint", fingerprint, "anchor-unknown")

    def put_bundle(self, row: BundleRow, roots: Sequence[Root]) -> None:
        """Take over an edition of a root bundle: believe its anchors, and keep its intermediates for gaps.

        Anchors that are believed already stay as they are, also those that are not in this edition any more. Raises
        :class:`UsageError`: ``roots-rollback`` or ``roots-changed`` when this is not the next edition,
        ``anchor-class`` when an anchor is believed as one of another class. Nothing is taken over then.
        """
        self._check_edition(row)
        values = {"serial": row.serial, "digest": row.digest, "added_at": row.added_at}
        self._upsert(schema.root_bundles, {"name": row.name}, values)
        table = schema.bundle_certificates
        self._connection.execute(delete(table).where(table.c.bundle == row.name))
        for root in roots:
            fingerprint = hashlib.sha256(root.der).digest()
            if root.is_anchor:
                anchor = TrustAnchor(root.der, root.ek_class, root.label)
                self._put_new_anchor(AnchorRow(fingerprint, anchor, row.added_at))
            content = {"bundle": row.name, "fingerprint": fingerprint, "certificate": root.der}
            self._connection.execute(insert(table).values(is_anchor=root.is_anchor, **content))
        self._next_generation()

    def _check_edition(self, row: BundleRow) -> None:
        table = schema.root_bundles
        known = self._connection.execute(select(table).where(table.c.name == row.name)).first()
        if known and row.serial < known.serial:
            raise UsageError(
                "roots-rollback",
                f"this is edition {row.serial} of {row.name!r}, and edition {known.serial} was imported before",
                hint="import the newest edition; to go back, its publisher gives the old content a new serial",
            )
        if known and row.serial == known.serial and row.digest != known.digest:
            raise UsageError(
                "roots-changed",
                f"another document was imported before as edition {row.serial} of {row.name!r}",
                hint="ask its publisher why there are two; a new edition has a new serial",
            )

    def _put_new_anchor(self, row: AnchorRow) -> None:
        table = schema.anchors
        known = self._connection.execute(select(table).where(table.c.fingerprint == row.fingerprint)).first()
        if known is None:
            self.put_anchor(row)
        elif known.ek_class != row.anchor.ek_class:
            raise UsageError(
                "anchor-class",
                f"the anchor {row.fingerprint.hex()} is believed as {known.ek_class}, not {row.anchor.ek_class}",
                hint="remove it first if the bundle is right: watchword authority anchor remove FINGERPRINT",
            )

    def put_crl(self, row: CrlRow) -> None:
        """Keep the newest revocation list of an issuer instead of an older one.

        Raises :class:`UsageError`: ``crl-older`` when a newer one (or another one of the same time) is here,
        ``crl-full`` when there are 256 issuers already.
        """
        table = schema.crls
        known = self._connection.execute(select(table).where(table.c.issuer == row.issuer)).first()
        if known and known.fingerprint != row.fingerprint and known.this_update >= row.this_update:
            raise UsageError(
                "crl-older",
                f"a list of {row.issuer_name} that is not older is here: {known.fingerprint.hex()}",
                hint="fetch the newest list; 'watchword authority crl remove' makes room for another one",
            )
        if not known and self._connection.execute(select(func.count()).select_from(table)).scalar_one() >= MAX_CRLS:
            raise UsageError(
                "crl-full", f"there are lists of {MAX_CRLS} issuers already", hint="remove those of makers you left"
            )
        values = {name: value for name, value in asdict(row).items() if name != "issuer"}
        self._upsert(table, {"issuer": row.issuer}, values)
        self._next_generation()

    def remove_crl(self, fingerprint: bytes) -> None:
        """Stop using a revocation list; what it revoked is accepted again."""
        self._remove(schema.crls, "fingerprint", fingerprint, "crl-unknown")

    def put_pin(self, pin: EkPin) -> None:
        """Believe this one EK without a certificate."""
        values = {
            "ek_public": pin.ek_public,
            "ek_class": str(pin.ek_class),
            "label": pin.label,
            "added_at": pin.added_at,
        }
        self._upsert(schema.ek_pins, {"host_id": pin.host_id}, values)
        self._next_generation()

    def remove_pin(self, host_id: bytes) -> None:
        """Stop believing this EK; the host stays enrolled until it is revoked."""
        self._remove(schema.ek_pins, "host_id", host_id, "ek-unknown")

    def put_endorser(self, endorser: EndorserRow) -> None:
        """Know this endorser; :meth:`put_endorsement` says what it signed."""
        values = {
            "key_type": endorser.key_type,
            "public_key": endorser.public_key,
            "name": endorser.name,
            "added_at": endorser.added_at,
        }
        self._upsert(schema.endorsers, {"key_id": endorser.key_id}, values)
        limits = schema.endorser_limits
        self._connection.execute(delete(limits).where(limits.c.key_id == endorser.key_id))
        for kind, allowed in (("stack", endorser.stacks), ("pool", endorser.pools)):
            for value in sorted(allowed or ()):
                row = {"key_id": endorser.key_id, "kind": kind, "value": value}
                self._connection.execute(insert(limits).values(row))
        self._next_generation()

    def remove_endorser(self, key_id: str) -> None:
        """Stop counting this key's signatures, everywhere and at once."""
        self._remove(schema.endorsers, "key_id", key_id, "endorser-unknown")

    def _upsert(self, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
        statement = upsert(table).values(**key, **values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))

    def _remove(self, table: Table, column: str, key: bytes | str, code: str) -> None:
        if self._connection.execute(delete(table).where(table.c[column] == key)).rowcount != 1:
            raise UsageError(code, f"there is no {key if isinstance(key, str) else key.hex()} to remove")
        self._next_generation()

    def _next_generation(self) -> None:
        state = schema.state
        self._connection.execute(update(state).values(generation=state.c.generation + 1).where(state.c.id == 1))
