"""Does the machine at this address hold the SSH host key that only an approved host could have installed?

The whole key exchange is completed first: the server's signature covers both sides' fresh ephemeral keys, so an
answer can be neither replayed nor made by somebody who only knows the public key. Then the proven key is compared.
A machine in the middle that ends the connection itself must show a key of its own; one that passes every byte on is
part of the network. Nobody logs in: no user configuration, no agent and no authentication take part.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import asyncssh

from watchword.errors import Finding, Rejected, Unavailable, UsageError

__all__ = ["Address", "known_hosts_line", "parse_address", "prove_host_key"]

SSH_PORT = 22
ATTEMPT_SECONDS = 10.0  # one connection; a port forwarder accepts before the guest listens, and then never answers
PAUSE_SECONDS = 0.5

# Only exchanges in which the client sees the host key and the signature over the transcript in one message. (In the
# RSA exchanges of RFC 4432 the key arrives first: a connection cut between the two must never look proven.)
_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group14-sha256",
)
_HOST_KEY_ALGORITHM = "ssh-ed25519"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the machine answers: a host name or IP address, and a TCP port."""

    host: str
    port: int = SSH_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``HOST``, ``HOST:PORT``, ``[IPV6]:PORT`` or a bare IPv6 address; raises :class:`UsageError`."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _bad_address(text)
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else (-1 if port else SSH_PORT)
    if not host or len(host) > 253 or not 0 < number < 65536 or not _is_host(host):
        raise _bad_address(text)
    return Address(host, number)


def _is_host(host: str) -> bool:
    return host.isascii() and not host.startswith("-") and all(c.isalnum() or c in ".-_:%" for c in host)


def _bad_address(text: str) -> UsageError:
    return UsageError("bad-address", f"{text[:100]!r} is not an address", hint="write HOST, HOST:PORT or [IPV6]:PORT")


def known_hosts_line(names: list[str], public_key: str) -> str:
    """One line for an OpenSSH ``known_hosts`` file: ``names`` as OpenSSH writes them, then the key."""
    return f"{','.join(names)} {public_key}"


def known_hosts_name(address: Address) -> str:
    """How OpenSSH names this address in ``known_hosts``: with brackets and port unless the port is 22."""
    return address.host if address.port == SSH_PORT else f"[{address.host}]:{address.port}"


def prove_host_key(address: Address, public_key: str, timeout: float) -> None:
    """Complete a key exchange with ``address`` and require exactly ``public_key``; keeps trying while nobody answers.

    ``public_key`` is "ssh-ed25519 AAAA…", ``timeout`` bounds the whole call in seconds. Raises :class:`Rejected`
    (``ssh-host-key``) as soon as anything shows another key, or no proof of this one; :class:`Unavailable`
    (``ssh-no-handshake``) when no key exchange was completed in time. Source: RFC 4253 section 8, RFC 8709.
    """
    expected = asyncssh.import_public_key(public_key)
    shown = asyncio.run(_first_proven_key(address, timeout))
    if shown.public_data != expected.public_data:
        raise _wrong_key(address, expected.get_fingerprint(), shown.get_fingerprint())


async def _first_proven_key(address: Address, timeout: float) -> asyncssh.SSHKey:
    deadline = time.monotonic() + timeout
    reason = "nothing answered"
    while (left := deadline - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(left, ATTEMPT_SECONDS)):
                return await _exchange(address)
        except (asyncssh.KeyExchangeFailed, asyncssh.HostKeyNotVerifiable) as error:
            raise _wrong_key(address, "proof of the expected key", _printable(error)) from error
        except (TimeoutError, asyncssh.Error, OSError) as error:
            reason = _printable(error) or reason
        await asyncio.sleep(min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
    raise Unavailable(
        "ssh-no-handshake",
        f"{address} completed no SSH handshake within {timeout:g} seconds ({reason}); nothing is proven",
        hint="is the machine running and the port open? Try again with a longer --timeout",
    )


async def _exchange(address: Address) -> asyncssh.SSHKey:
    """The host key of one completed key exchange. asyncssh resolves this only after it checked the signature."""
    options = await asyncssh.SSHClientConnectionOptions.construct(
        config=None, client_keys=None, agent_path=None, username="watchword", gss_host=None
    )
    key = await asyncssh.get_server_host_key(
        address.host,
        address.port,
        config=None,
        proxy_command=None,
        kex_algs=_offered(),
        server_host_key_algs=[_HOST_KEY_ALGORITHM],
        options=options,
    )
    if key is None:
        raise asyncssh.KeyExchangeFailed("the key exchange used no host key")
    return key


def _offered() -> list[str]:
    available = {name.decode("ascii") for name in asyncssh.kex.get_kex_algs()}
    return [name for name in _EXCHANGES if name in available]


def _printable(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _wrong_key(address: Address, expected: str, actual: str) -> Rejected:
    finding = Finding(
        clause="V1",
        code="ssh-host-key",
        message="the machine did not prove the SSH host key of this launch",
        expected=expected,
        actual=actual,
        subject=str(address),
    )
    return Rejected(
        finding, hint="this is not the machine you launched: send it nothing, and ask the provider for another"
    )
