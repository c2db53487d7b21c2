"""Attestation results (EAR) of recorded decisions, for relying parties that know the standard and not our receipts."""

from __future__ import annotations

import msgspec

from watchword.crypto.ed25519 import Ed25519Signer
from watchword.launch.receipt import Decision
from watchword.policy import ear
from watchword.policy.ear_claims import Ear, Submodule, VerifierId
from watchword.policy.trustworthiness import Claim, Tier

__all__ = ["make_result"]

_DEVELOPER = "Watchword"


def make_result(decision: Decision, build: str, key: Ed25519Signer) -> bytes:
    """The signed result (a JWT) of ``decision``, as of the time when it was made; ``build`` is our version.

    It says about the host what the receipt says and names it no more than the receipt does.
    """
    stack = decision.stack
    about = {
        "level": decision.level,
        "rank": decision.rank,
        "stack": msgspec.to_builtins(stack) if stack else None,
        "host": decision.host,
        "launch": decision.launch,
        "findings": [
            {
                "clause": f.clause,
                "code": f.code,
                "message": f.message,
                "expected": f.expected,
                "actual": f.actual,
                "subject": f.subject,
            }
            for f in decision.findings
        ],
    }
    host = Submodule(
        status=Tier(decision.status),
        vector={Claim(name): value for name, value in decision.vector.items()},
        policy_ids=(f"urn:watchword:profile:{decision.profile}",),
        extensions={ear.EXTENSION: about},
    )
    claims = Ear(decision.time, VerifierId(_DEVELOPER, build), {ear.SUBMODULE: host})
    return ear.sign(claims.encode(), key)
