"""All checks, in the order in which one explains the next; what cannot be opened is not looked into further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from watchword.authority.access import People
from watchword.authority.data import ACCESS_FILE, store_of
from watchword.authority.doctor import judging, keys, machine, record, service
from watchword.authority.doctor.report import Report, Subject
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Store

__all__ = ["examine"]


def examine(subject: Subject, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Report:
    """Look at the authority ``subject``; never raises for what it finds, and changes nothing.

    ``progress`` hears how many of the log's entries are checked, and how many there are.
    """
    report = Report()
    with report.check("directory"):
        machine.check_directory(subject, report)
    with report.check("disk"):
        machine.check_disk(subject, report)
    with report.check("limits"):
        machine.check_limits(report)
    if subject.backup is not None:
        with report.check("backup"):
            machine.check_backup(subject, report)
    with report.check("access"):
        People.read(subject.data / ACCESS_FILE)
    ring = _keys(subject, report)
    with report.check("store"):
        where = store_of(subject.data, subject.database)
        if isinstance(where, Path) and not where.exists():
            text, hint = (
                f"there is no store at {subject.store}",
                f"Name another --data, or put a backup back: {machine.RESTORE}",
            )
            report.problem("store-missing", text, hint)
            return report
        with Store.open(where) as store:
            _store(subject, store, ring, report, progress)
    return report


def _keys(subject: Subject, report: Report) -> Keyring | None:
    """The keyring, if it can sign."""
    ring: Keyring | None = None
    with report.check("keys"):
        ring = Keyring.load(subject.data / "keyring", passphrase=subject.passphrase, tokens=subject.tokens)
        keys.check_ages(subject, ring, report)
    if ring is None:
        return None
    signs = _keys_sign(ring, report)
    with report.check("certificates"):
        keys.check_certificates(subject, ring, report)
    if subject.url is not None and not report.has("certificate-names"):  # else TLS fails for that reason
        with report.check("service"):
            service.check_service(subject, ring, report)
    return ring if signs else None


def _keys_sign(ring: Keyring, report: Report) -> bool:
    """Whether keys that are in tokens can be used; those in files can, since they were loaded."""
    if ring.has_tokens:
        with report.check("tokens"):
            ring.check_tokens()
            return True
        return False
    return True


def _store(
    subject: Subject, store: Store, ring: Keyring | None, report: Report, progress: Callable[[int, int], None]
) -> None:
    record.check_store(store, report)
    machine.check_server(store, report)
    with report.check("log"):
        record.check_log(subject, store, progress)
    found = None
    with report.check("clock"):
        found = store.survey(subject.now)
        record.check_clock(subject, found, report)
        record.check_nonces(subject, found, report)
    if found is not None:
        with report.check("witnesses"):
            record.check_witnesses(subject, found, report)
            if ring is not None:
                record.check_witness_clocks(ring, store, found, report)
        with report.check("retention"):
            record.check_evidence(subject, found, report)
        with report.check("hosts"):
            judging.check_hosts(found, report)
        with report.check("crls"):
            judging.check_crls(subject, found, report)
    with report.check("stacks"):
        current = judging.in_force(store, subject.now)
        judging.check_stacks(subject, store, current, report)
        if current:
            with report.check("profiles"):
                judging.check_profiles(subject, store, current, report)
