"""The only way to seal a secret: it takes an ``Approved`` host, and nothing else will do.

The data key goes into a TPM object wrapped to that host's EK, under a policy that holds only in the boot that was
quoted, with the boot PCRs that were verified, and only until the lease ends. PCR 10 moves with every program that
runs, so it was judged at appraisal and is not part of the policy.
"""

from __future__ import annotations

from watchword.crypto.envelope import LaunchSecret, LaunchShare, seal_payload, seal_share_payload
from watchword.crypto.tpm_seal import boot_policy, seal_object
from watchword.errors import Finding, Rejected
from watchword.policy.appraise import Approved
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Release
from watchword.wire.token import TokenBody
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import pcr_digest

__all__ = ["DATA_KEY_SIZE", "LEASE", "check_grant", "check_purpose", "seal"]

DATA_KEY_SIZE = 32
LEASE = 120  # seconds that a release can be opened, on the TPM's own clock


def check_grant(grant: TokenBody, now: int) -> None:
    """Clause F3. Raises :class:`Rejected` with ``token-expired``."""
    if now >= grant.expires:
        raise Rejected(
            Finding("F3", "token-expired", "the token has expired", f"before {grant.expires}", f"at {now}"),
            hint="The tenant makes a new token and launches again.",
        )


def check_purpose(grant: TokenBody, purpose: Purpose) -> None:
    """Clause F6: a share is asked for as a share, a whole secret as one. Raises :class:`Rejected` (``share-purpose``).

    An agent that does not know shares would take one for the secret, and spend the release on it.
    """
    wanted = Purpose.LAUNCH if grant.place is None else Purpose.SHARE
    if purpose is not wanted:
        what = "a share of a secret" if grant.place is not None else "a whole secret"
        raise Rejected(
            Finding("F6", "share-purpose", f"the token holds {what}, which was not asked for as one",
                    wanted.name.lower(), purpose.name.lower()),
            hint="Give the agent all tokens of the launch and their launch set, and see that it is new enough.",
        )  # fmt: skip


def seal(approved: Approved, grant: TokenBody, *, context: bytes, data_key: bytes, lease: int = LEASE) -> Release:
    """Seal the secret in ``grant`` to the host in ``approved``.

    ``context`` is the binding of the quote (32 bytes), ``data_key`` 32 fresh bytes, ``lease`` seconds.
    Raises :class:`Rejected` (F2) when the token asks for another profile or a higher level than was approved.
    """
    if grant.profile != approved.profile_id or approved.rank < grant.level:
        raise Rejected(
            Finding(
                "F2",
                "token-profile",
                "the token asks for another profile or a higher level",
                f"{grant.profile.hex()} level {grant.level}",
                f"{approved.profile_id.hex()} level {approved.rank}",
            )
        )
    pcrs = approved.host.pcrs
    selections = approved.selections
    clock_limit = pcrs.clock_info.clock + lease * 1000
    policy = boot_policy(
        selections, pcr_digest(Alg.SHA256, selections, pcrs.values), pcrs.clock_info.reset_count, clock_limit
    )
    sealed = seal_object(approved.host.ak.ek, data_key, policy)
    return Release(
        public=sealed.public,
        duplicate=sealed.duplicate,
        encrypted_seed=sealed.encrypted_seed,
        selections=selections,
        reset_count=pcrs.clock_info.reset_count,
        clock_limit=clock_limit,
        payload=_payload(grant, data_key, context),
    )


def _payload(grant: TokenBody, data_key: bytes, context: bytes) -> bytes:
    if grant.place is None:
        return seal_payload(LaunchSecret(grant.secret, grant.launch_id, grant.inputs, grant.flags), data_key, context)
    share = LaunchShare(grant.secret, grant.launch_id, grant.inputs, grant.flags, grant.place)
    return seal_share_payload(share, data_key, context)
