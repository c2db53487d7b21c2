"""The authority's keys and certificates: whole, not too old, and good for the name by which clients come."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from watchword.authority.doctor.report import Report, Subject
from watchword.authority.keys import tls
from watchword.authority.keys.keyring import Keyring
from watchword.authority.telemetry.keyages import certificate_ends, key_ages

__all__ = ["check_ages", "check_certificates"]

_DAY: Final = 86400
_OLD_DAYS: Final = 400
_SOON_DAYS: Final = 30
_ROTATED: Final = ("signing", "sealing", "log")


def check_ages(subject: Subject, ring: Keyring, report: Report) -> None:
    """Keys that are used every day are changed now and then."""
    ages = key_ages(ring)
    for kind in _ROTATED:
        days = (subject.now - ages[kind]) // _DAY
        if days > _OLD_DAYS:
            text = f"the {kind} key has been in force for {days} days"
            report.warning("key-old", text, f"watchword authority keys rotate {kind}")


def check_certificates(subject: Subject, ring: Keyring, report: Report) -> None:
    """The certificates of the service are good, for some time to come, and for the name in ``url``."""
    for which, end in certificate_ends(ring).items():
        days = (end - subject.now) // _DAY
        hint = "Start the service again: it makes a new one when less than 60 days are left."
        if which == "authority":
            hint = "It is for ten years and in the key list: plan for a new authority."
        if end <= subject.now:
            report.problem("certificate-ended", f"the {which} certificate has ended", hint)
        elif days < _SOON_DAYS:
            report.warning("certificate-ends", f"the {which} certificate ends in {days} days", hint)
    host = urlsplit(subject.url).hostname if subject.url else None
    if host and not tls.covers(ring.tls_files[0].read_text(), [host], 0):
        report.problem(
            "certificate-names",
            f"the server's certificate is not good for {host}",
            f"Start the service with --host-name {host}.",
        )
