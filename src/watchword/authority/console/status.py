"""What this authority is: its keys, how much it holds, and whose TPMs it believes."""

from __future__ import annotations

from dataclasses import asdict

from watchword.authority.console.page import Ask, Page
from watchword.crypto import dsse
from watchword.crypto.note import note_key
from watchword.verify.log import log_origin

__all__ = ["status"]


def status(ask: Ask) -> Page:
    """The page."""
    store, ring = ask.services.store, ask.services.keyring()
    keys = ring.key_list
    return Page(
        "status.html",
        {
            "fingerprint": ring.fingerprint,
            "keys": keys,
            "signing": dsse.key_id(keys.signing[0]),
            "sealing": keys.sealing_key_id().hex(),
            "log_key": note_key(log_origin(keys.authority), keys.log[0]).encode(),
            "counts": asdict(store.counts()),
            "watched": [row for row in store.profiles() if row.id in store.watched()],
            "bundles": store.bundles(),
            "crls": store.crls(),
            "endorsers": store.endorsers(),
        },
    )
