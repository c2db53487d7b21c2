"""Asks for a release and opens it: what comes out is the tenant's secret, if this host deserves it.

Steps 4 to 8 of a launch. Nothing here judges this host: the authority does, and the TPM enforces that the release opens
only in the boot that was judged, with the PCR values that were judged, and only for a short time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from watchword.agent.collect import OnFile, measure
from watchword.agent.host import Host
from watchword.agent.journal import step
from watchword.agent.transport import ask, new_reply_key
from watchword.crypto.envelope import LaunchSecret, LaunchShare, open_payload, open_share_payload
from watchword.errors import MalformedError, WatchwordError
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.messages import Challenge, ChallengeRequest, Release, ReleaseRequest
from watchword.wire.trace import launch_trace, traced

__all__ = [
    "evidence_for",
    "open_release",
    "open_share",
    "prepare_request",
    "request_release",
    "request_share",
]

_DATA_KEY_SIZE = 32


def request_release(host: Host, host_id: bytes, token: str, instance: str) -> tuple[Release, bytes]:
    """Challenge, evidence, and the release, still closed, and the 32-byte binding that it answers."""
    with _journal(token, instance):
        request, reply_key, bound = prepare_request(host, host_id, token, instance)
        return ask(host.exchange, host.keys, request, Release, reply_key), bound


@contextlib.contextmanager
def _journal(token: str, instance: str) -> Iterator[None]:
    """The host's own log tells how a request for a release ended."""
    trace = launch_trace(token)
    try:
        with traced(trace):
            yield
    except WatchwordError as error:
        step("launch-refused", trace, instance=instance, code=error.code)
        raise
    step("launch-released", trace, instance=instance)


def prepare_request(host: Host, host_id: bytes, token: str, instance: str) -> tuple[ReleaseRequest, bytes, bytes]:
    """Challenge and evidence: the request for a release, the 32-byte key for its reply, the binding in its quote."""
    request = ChallengeRequest(host_id, Purpose.LAUNCH, token)
    trace = launch_trace(token)
    challenge = ask(host.exchange, host.keys, request, Challenge)
    step("launch-challenge", trace, instance=instance)
    reply_key = new_reply_key()
    evidence, bound = evidence_for(host, request, challenge, instance, reply_key)
    step("launch-evidence", trace, instance=instance, ima_from=evidence.ima_from)
    return ReleaseRequest(evidence), reply_key, bound


def request_share(
    host: Host, request: ChallengeRequest, challenge: Challenge, instance: str, run: bytes
) -> tuple[Release, bytes]:
    """The release of a share, still closed, and its binding; ``run`` is 16 bytes, ``challenge`` answers ``request``."""
    with _journal(request.token, instance):
        reply_key = new_reply_key()
        evidence, bound = evidence_for(host, request, challenge, instance, reply_key, run)
        return ask(host.exchange, host.keys, ReleaseRequest(evidence), Release, reply_key), bound


def evidence_for(
    host: Host, request: ChallengeRequest, challenge: Challenge, instance: str, reply_key: bytes, run: bytes = b""
) -> tuple[Evidence, bytes]:
    """The evidence for one request, and the 32-byte binding in its quote."""
    bound = binding(
        host_id=request.host_id,
        nonce=challenge.nonce,
        purpose=request.purpose,
        token=request.token,
        instance=instance,
        reply_key=reply_key,
        run=run,
    )
    found = measure(
        host.tpm,
        challenge.selections,
        bound,
        event_log=host.event_log,
        runtime_log=host.runtime_log,
        on_file=OnFile(challenge.ima_from, challenge.reset_count, challenge.boot_log),
    )
    evidence = Evidence(
        host_id=request.host_id,
        nonce=challenge.nonce,
        purpose=request.purpose,
        token=request.token,
        instance=instance,
        attest=found.attest,
        signature=found.signature,
        pcrs=found.pcrs,
        event_log=found.event_log,
        ima_from=found.ima_from,
        ima_log=found.ima_log,
        run=run,
    )
    return evidence, bound


def open_release(host: Host, release: Release, bound: bytes) -> LaunchSecret:
    """Open ``release`` with the TPM; ``bound`` is the 32-byte binding of the quote that it answers.

    Raises a TPM error when the release is for another TPM, another boot, other PCR values, or too old;
    :class:`MalformedError` (``payload-unopenable``) when it answers another request.
    """
    return open_payload(_data_key(host, release), release.payload, bound)


def open_share(host: Host, release: Release, bound: bytes) -> LaunchShare:
    """As :func:`open_release`, for a share; a whole secret in its place is ``payload-unopenable``."""
    return open_share_payload(_data_key(host, release), release.payload, bound)


def _data_key(host: Host, release: Release) -> bytes:
    data_key = host.tpm.import_and_unseal(
        release.public,
        release.duplicate,
        release.encrypted_seed,
        release.selections,
        release.reset_count,
        release.clock_limit,
    )
    if len(data_key) != _DATA_KEY_SIZE:
        raise MalformedError("release: the sealed object does not hold a data key")
    return data_key
