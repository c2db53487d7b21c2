"""Whether the service answers where clients look for it, and is this authority."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx2

from watchword.authority.doctor.report import Report, Subject
from watchword.authority.keys.keyring import Keyring

__all__ = ["check_service"]

_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 64 * 1024
_CLOCK_SECONDS: Final = 60


def check_service(subject: Subject, ring: Keyring, report: Report) -> None:
    """Ask it, over TLS, by the certificate authority of the keys here."""
    assert subject.url is not None
    context = ssl.create_default_context(cadata=ring.key_list.tls_ca)
    try:
        with httpx2.Client(
            base_url=subject.url, verify=context, timeout=_SECONDS, trust_env=False, follow_redirects=False
        ) as client:
            status, ready = client.get("/v1/status"), client.get("/v1/ready")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            text = f"what answers at {subject.url} does not have this authority's certificate"
            report.problem("service-other", text, "Look at the address, at proxies, and at whether --data is right.")
        else:
            text = f"nothing answers at {subject.url}: {str(error)[:200] or type(error).__name__}"
            report.problem("service-unreachable", text, "Look at the service manager, the address and the firewall.")
        return
    document = _document(status)
    if document.get("fingerprint") != ring.fingerprint:
        text = f"what answers at {subject.url} is another authority"
        report.problem("service-other", text, "Look at the address, at proxies, and at whether --data is right.")
        return
    if ready.status_code != 200:
        text = f"the service is not ready: {str(_document(ready).get('detail', ready.status_code))[:200]}"
        report.problem("service-not-ready", text, "Lines 'failure' of its log say why.")
    time = document.get("time")
    if not isinstance(time, int) or abs(time - subject.now) > _CLOCK_SECONDS:
        text = f"the service's clock differs from the one here: {time} and {subject.now}"
        report.warning("clock-differs", text, "Set both: timedatectl.")


def _document(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json() if len(response.content) <= _MAX_ANSWER else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}
