"""Who sent a request, and whether they may: what handlers call before they do anything."""

from __future__ import annotations

from typing import Final, cast
from urllib.parse import urlsplit

from starlette.requests import Request

from watchword.authority.access.certificate import peer_certificate
from watchword.authority.access.roles import PERMISSIONS, Caller, Role
from watchword.authority.access.source import Access
from watchword.authority.serving.limits import Intake
from watchword.authority.serving.problems import Problem

__all__ = ["check_origin", "identify", "known", "permit", "require"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE: Final = 'Bearer realm="watchword"'
_BEARER: Final = "bearer"


async def identify(request: Request) -> Caller | None:
    """Who sent ``request``: None when it comes with nothing that says so, or with a certificate of nobody here.

    A bearer token counts alone: rights of a certificate are never added to it. Headers in which a proxy would tell
    about a certificate mean nothing.

    Raises :class:`Problem`: ``unauthenticated`` for a token that does not hold, ``identity-unavailable`` when it
    cannot be checked now, ``overloaded``.
    """
    access: Access = request.app.state.access
    if request.scope["scheme"] != "https":
        return None
    given, certificate = request.headers.getlist("authorization"), peer_certificate(request.scope)
    if given:
        token, intake = _bearer(given), cast(Intake, request.app.state.intake)
        return await intake.run(lambda: access.by_token(token, certificate))
    return access.by_certificate(certificate) if certificate is not None else None


async def known(request: Request) -> Caller:
    """The caller, whatever they may do. Raises :class:`Problem`: what :func:`identify` raises, ``unauthenticated``."""
    caller = await identify(request)
    if caller is None:
        raise Problem("unauthenticated", _why_nobody(request), headers={"WWW-Authenticate": _CHALLENGE})
    return caller


async def require(request: Request, *roles: Role) -> Caller:
    """The caller, who has at least one of ``roles``.

    Raises :class:`Problem`: what :func:`known` raises, ``forbidden`` for somebody without such a role,
    ``cross-origin`` for a change that a browser asks for on behalf of another site.
    """
    caller = await known(request)
    if not caller.roles & set(roles):
        named = ", ".join(sorted(roles)) or "nobody"
        raise Problem("forbidden", f"{caller.name} may not do this; it takes one of these roles: {named}")
    check_origin(request)
    return caller


async def permit(request: Request, act: str) -> Caller:
    """The caller, who may do ``act`` by the table :data:`PERMISSIONS`. Raises as :func:`require`."""
    return await require(request, *PERMISSIONS[act])


def check_origin(request: Request) -> None:
    """Refuse a change that a browser was made to ask for by another site: a certificate comes with every request.

    Browsers say where a request comes from in Sec-Fetch-Site (Fetch Metadata) and in Origin (RFC 6454), and scripts
    cannot forge either. A client that says neither is no browser. Raises :class:`Problem` (``cross-origin``).
    """
    if request.method in _SAFE:
        return
    site, origins = request.headers.getlist("sec-fetch-site"), request.headers.getlist("origin")
    if site:
        good = site in (["same-origin"], ["none"])
    else:
        good = not origins or (len(origins) == 1 and _is_ours(origins[0], request))
    if not good:
        raise Problem("cross-origin", "a page of another site asked for this change")


def _is_ours(origin: str, request: Request) -> bool:
    parts = urlsplit(origin)
    return parts.scheme == "https" and parts.netloc != "" and parts.netloc == request.headers.get("host", "")


def _bearer(given: list[str]) -> str:
    kind, _, token = given[0].partition(" ")
    if len(given) != 1 or kind.lower() != _BEARER or not token.strip():
        headers = {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_request"'}
        raise Problem("unauthenticated", "Authorization is one bearer token: Bearer TOKEN", headers=headers)
    return token.strip()


def _why_nobody(request: Request) -> str:
    if peer_certificate(request.scope) is not None:
        return "this client certificate is nobody's here, or was withdrawn: the service's log says which it is"
    return "this needs a client certificate, or a bearer token"
