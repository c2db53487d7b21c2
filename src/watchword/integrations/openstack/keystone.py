"""Asks the identity service whether the token in nova's request is nova's.

Source: Identity API v3, "Validate and show information for token" (``GET /v3/auth/tokens``).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict

import httpx2

from watchword.errors import Finding, Rejected, Unavailable, UsageError
from watchword.integrations.openstack.builds import Deadline

__all__ = ["Keystone"]

_MAX_ANSWER = 1 << 20
_MAX_TOKEN = 8192  # characters
_REMEMBERED = 64
_SECONDS = 60.0  # that a good answer counts: six requests come for each config drive
_TIMEOUT = 20.0  # of the deadline: an identity service under load is slow, and the host is penalised for it


class Keystone:
    """The identity service at ``url`` (…/v3); only the user named ``user`` may ask. Raises :class:`UsageError`."""

    def __init__(self, url: str, user: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError("config", f"[serve] keystone is not a web address: {url[:80]!r}")
        self._url = url.rstrip("/") + "/auth/tokens"
        self._user = user
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self._client = httpx2.Client(timeout=_TIMEOUT, trust_env=False, follow_redirects=False)

    def check(self, token: str, deadline: Deadline) -> None:
        """Raise :class:`Rejected` (``caller-unknown``) or :class:`Unavailable` (``keystone``)."""
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise _unknown("the request has no token of the identity service")
        name = hashlib.sha256(token.encode()).digest()
        with self._lock:
            if self._good.get(name, 0.0) > time.monotonic():
                return
        self._ask(token, min(_TIMEOUT, deadline.left))
        with self._lock:
            self._good[name] = time.monotonic() + _SECONDS
            while len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)

    def _ask(self, token: str, timeout: float) -> None:
        headers = {"X-Auth-Token": token, "X-Subject-Token": token, "Accept": "application/json"}
        try:
            answer = self._client.get(self._url, headers=headers, timeout=timeout)
            body = answer.content[: _MAX_ANSWER + 1]
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unavailable("keystone", f"the identity service does not answer: {str(error)[:200]}") from None
        if answer.status_code in (401, 403, 404):
            raise _unknown("the identity service does not know the token")
        try:
            name = json.loads(body)["token"]["user"]["name"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            name = None
        if name is None:
            raise Unavailable("keystone", f"the identity service answered {answer.status_code}, and not as it should")
        if name != self._user:
            raise _unknown("the token is another user's")


def _unknown(why: str) -> Rejected:
    return Rejected(
        Finding("O1", "caller-unknown", why),
        hint="Set [vendordata_dynamic_auth] in nova.conf to the user that [serve] keystone_user names.",
    )
