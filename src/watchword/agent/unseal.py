"""Asks for a release and opens it: what comes out is the tenant's secret, if this host deserves it.

Steps 4 to 8 of a launch. Nothing here judges this host: the authority does, and the TPM enforces that the release opens
only in the boot that was judged, with the PCR values that were judged, and only for a short time.
"""

from __future__ import annotations

from watchword.agent.collect import measure
from watchword.agent.host import Host
from watchword.agent.journal import step
from watchword.agent.transport import ask, new_reply_key
from watchword.agent.turn import in_turn
from watchword.crypto.envelope import LaunchSecret, open_payload
from watchword.errors import MalformedError, WatchwordError
from watchword.wire.evidence import Evidence, Purpose, binding
from watchword.wire.messages import Challenge, ChallengeRequest, Release, ReleaseRequest
from watchword.wire.trace import launch_trace, traced

__all__ = ["evidence_for", "obtain_secret", "open_release", "prepare_request", "request_release"]

_DATA_KEY_SIZE = 32


def obtain_secret(host: Host, host_id: bytes, token: str, instance: str) -> LaunchSecret:
    """Challenge, evidence, release, unseal: the secret in ``token`` for the machine ``instance``.

    ``host_id`` is what enrolment returned. Raises :class:`Rejected` with the authority's clause and code,
    :class:`MalformedError`, :class:`Unavailable`, or a TPM error when the host's state moved since the quote.
    """
    trace = launch_trace(token)
    with traced(trace), in_turn(host.lock):
        release, bound = request_release(host, host_id, token, instance)
        secret = open_release(host, release, bound)
        step("launch-opened", trace, instance=instance)
        return secret


def request_release(host: Host, host_id: bytes, token: str, instance: str) -> tuple[Release, bytes]:
    """The first half of :func:`obtain_secret`: the release, still closed, and the 32-byte binding that it answers."""
    trace = launch_trace(token)
    try:
        with traced(trace):
            request, reply_key, bound = prepare_request(host, host_id, token, instance)
            release = ask(host.exchange, host.keys, request, Release, reply_key)
    except WatchwordError as error:
        step("launch-refused", trace, instance=instance, code=error.code)
        raise
    step("launch-released", trace, instance=instance)
    return release, bound


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


def evidence_for(
    host: Host, request: ChallengeRequest, challenge: Challenge, instance: str, reply_key: bytes
) -> tuple[Evidence, bytes]:
    """The evidence for one request, and the 32-byte binding in its quote."""
    bound = binding(
        host_id=request.host_id,
        nonce=challenge.nonce,
        purpose=request.purpose,
        token=request.token,
        instance=instance,
        reply_key=reply_key,
    )
    found = measure(
        host.tpm,
        challenge.selections,
        bound,
        event_log=host.event_log,
        runtime_log=host.runtime_log,
        on_file=(challenge.ima_from, challenge.reset_count),
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
    )
    return evidence, bound


def open_release(host: Host, release: Release, bound: bytes) -> LaunchSecret:
    """Open ``release`` with the TPM; ``bound`` is the 32-byte binding of the quote that it answers.

    Raises a TPM error when the release is for another TPM, another boot, other PCR values, or too old;
    :class:`MalformedError` (``payload-unopenable``) when it answers another request.
    """
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
    return open_payload(data_key, release.payload, bound)
