"""Access rules as they are now: a change of ``access.toml`` counts from the next request on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from watchword.authority.access.certificate import check_client
from watchword.authority.access.issuer import Issuer
from watchword.authority.access.people import People
from watchword.authority.access.revoked import read_revoked
from watchword.authority.access.roles import Caller
from watchword.authority.access.tokens import BadToken, holder
from watchword.authority.serving.problems import Problem
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import AccessEvent, FailureEvent, Tell
from watchword.errors import Unavailable, UsageError

__all__ = ["Access"]


class Access:
    """Who callers are, by the rules in ``path``; nobody is anybody while there is no such file.

    ``clock`` gives Unix seconds, ``tell`` hears what does not work. ``lists`` are a file of revocation lists and one
    of the certificates that issue lists and people's certificates. Raises :class:`UsageError` (``access-file``,
    ``client-crl``) when a file is wrong; one that becomes wrong later is told, and what it said before stays in force.
    """

    def __init__(
        self,
        path: Path | None = None,
        clock: Callable[[], int] = lambda: int(time.time()),
        tell: Tell = journal.tell,
        lists: tuple[Path, Path] | None = None,
    ) -> None:
        self._path, self._clock, self._tell = path, clock, tell
        self._lock = threading.Lock()
        self._issuer: Issuer | None = None
        self._stamp = _stamp(path)
        self._people = People.read(path) if path is not None else People()
        self._lists = lists
        self._lists_stamp = _stamp(lists[0]) if lists else None
        self._revoked = read_revoked(*lists) if lists else None

    def by_certificate(self, certificate: x509.Certificate) -> Caller | None:
        """Whose certificate this is; its chain was verified. None, and a line in the log, when it is nobody's."""
        now = self._clock()
        fault = check_client(certificate, now) or self._revocation(certificate, now)
        found = self._now().holders(certificate)
        if not fault and len(found) == 1:
            return next(iter(found))
        why = fault or ("it could be several persons'" if found else "it is nobody's, or it was revoked")
        self._tell(AccessEvent("certificate", why, certificate.fingerprint(SHA256()).hex()))
        return None

    def _revocation(self, certificate: x509.Certificate, now: int) -> str:
        if self._lists is None or self._revoked is None:
            return ""
        stamp = _stamp(self._lists[0])
        if stamp != self._lists_stamp:
            with self._lock:
                if stamp != self._lists_stamp:
                    self._lists_stamp = stamp
                    self._reload_lists(*self._lists)
        return self._revoked.fault(certificate, now)

    def _reload_lists(self, lists: Path, authorities: Path) -> None:
        try:
            self._revoked = read_revoked(lists, authorities)
        except UsageError as error:
            self._tell(FailureEvent("access", error.code, f"{error.message}; the lists from before stay in force"))

    def by_token(self, token: str, certificate: x509.Certificate | None) -> Caller:
        """Who holds this bearer token, on a connection that proved ``certificate``. Blocks.

        Raises :class:`Problem` (``unauthenticated``, ``identity-unavailable``).
        """
        rules = self._now().tokens
        if rules is None:
            raise _bad_token("this authority takes no bearer tokens")
        issuer = self._issuer
        if issuer is None or (issuer.url, issuer.ca_file) != (rules.url, rules.ca_file):
            self._issuer = issuer = Issuer(rules.url, rules.ca_file, self._tell)
        try:
            return holder(token, rules, issuer, self._clock(), certificate)
        except BadToken as error:
            self._tell(AccessEvent("token", str(error)))
            raise _bad_token(f"the bearer token does not hold: {error}") from None
        except Unavailable:
            text = "the bearer token cannot be checked: its issuer's keys cannot be had now"
            raise Problem("identity-unavailable", text) from None

    def _now(self) -> People:
        stamp = _stamp(self._path)
        if stamp != self._stamp and self._path is not None:
            with self._lock:
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._reload(self._path)
        return self._people

    def _reload(self, path: Path) -> None:
        try:
            self._people = People.read(path)
        except UsageError as error:
            self._tell(FailureEvent("access", error.code, f"{error.message}; what it said before stays in force"))


def _bad_token(text: str) -> Problem:
    headers = {"WWW-Authenticate": 'Bearer realm="watchword", error="invalid_token"'}
    return Problem("unauthenticated", text, headers=headers)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns) if status else None
