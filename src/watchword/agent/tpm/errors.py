"""What a TPM answered when it did not answer TPM_RC_SUCCESS, in words an operator can act on.

A response code alone says little: TPM_RC_INTEGRITY is "this blob is for another TPM" at TPM2_Import and "this
credential is for another attestation key" at TPM2_ActivateCredential. So the stable reason code is chosen by the
command *and* the response code; ``docs/reference/codes.md`` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchword.errors import WatchwordError

__all__ = ["TpmError", "base_code", "describe", "tpm_error"]

# TPM 2.0 Library, Part 2, 6.6 "TPM_RC". Format zero: bit 7 clear, low 7 bits of an error (0x1xx) or warning (0x9xx).
RC_INITIALIZE, RC_FAILURE = 0x100, 0x101
RC_POLICY, RC_PCR_CHANGED, RC_AUTH_UNAVAILABLE = 0x126, 0x128, 0x12F
RC_YIELDED, RC_TESTING, RC_RETRY, RC_LOCKOUT = 0x908, 0x90A, 0x922, 0x921
# Format one: bit 7 set, the number of the parameter, handle or session is in bits 8 to 11 and masked off here.
RC_VALUE, RC_HANDLE, RC_SIZE, RC_AUTH_FAIL = 0x084, 0x08B, 0x095, 0x08E
RC_POLICY_FAIL, RC_INTEGRITY, RC_BAD_AUTH, RC_ECC_POINT, RC_BINDING = 0x09D, 0x09F, 0x0A2, 0x0A7, 0x0A5

_NAMES = {
    0x100: "INITIALIZE", 0x101: "FAILURE", 0x103: "SEQUENCE", 0x119: "DISABLED", 0x120: "EXCLUSIVE",
    0x124: "AUTH_TYPE", 0x125: "AUTH_MISSING", 0x126: "POLICY", 0x127: "PCR", 0x128: "PCR_CHANGED",
    0x12D: "UPGRADE", 0x12E: "TOO_MANY_CONTEXTS", 0x12F: "AUTH_UNAVAILABLE", 0x130: "REBOOT",
    0x131: "UNBALANCED", 0x142: "COMMAND_SIZE", 0x143: "COMMAND_CODE", 0x144: "AUTHSIZE",
    0x145: "AUTH_CONTEXT", 0x146: "NV_RANGE", 0x147: "NV_SIZE", 0x148: "NV_LOCKED",
    0x149: "NV_AUTHORIZATION", 0x14A: "NV_UNINITIALIZED", 0x14B: "NV_SPACE", 0x14C: "NV_DEFINED",
    0x150: "BAD_CONTEXT", 0x151: "CPHASH", 0x152: "PARENT", 0x153: "NEEDS_TEST", 0x154: "NO_RESULT",
    0x155: "SENSITIVE",
    0x901: "CONTEXT_GAP", 0x902: "OBJECT_MEMORY", 0x903: "SESSION_MEMORY", 0x904: "MEMORY",
    0x905: "SESSION_HANDLES", 0x906: "OBJECT_HANDLES", 0x907: "LOCALITY", 0x908: "YIELDED",
    0x909: "CANCELED", 0x90A: "TESTING", 0x910: "REFERENCE_H0", 0x911: "REFERENCE_H1",
    0x918: "REFERENCE_S0", 0x920: "NV_RATE", 0x921: "LOCKOUT", 0x922: "RETRY", 0x923: "NV_UNAVAILABLE",
    0x081: "ASYMMETRIC", 0x082: "ATTRIBUTES", 0x083: "HASH", 0x084: "VALUE", 0x085: "HIERARCHY",
    0x087: "KEY_SIZE", 0x088: "MGF", 0x089: "MODE", 0x08A: "TYPE", 0x08B: "HANDLE", 0x08C: "KDF",
    0x08D: "RANGE", 0x08E: "AUTH_FAIL", 0x08F: "NONCE", 0x090: "PP", 0x092: "SCHEME", 0x095: "SIZE",
    0x096: "SYMMETRIC", 0x097: "TAG", 0x098: "SELECTOR", 0x09A: "INSUFFICIENT", 0x09B: "SIGNATURE",
    0x09C: "KEY", 0x09D: "POLICY_FAIL", 0x09F: "INTEGRITY", 0x0A0: "TICKET", 0x0A1: "RESERVED_BITS",
    0x0A2: "BAD_AUTH", 0x0A3: "EXPIRED", 0x0A4: "POLICY_CC", 0x0A5: "BINDING", 0x0A6: "CURVE",
    0x0A7: "ECC_POINT",
}  # fmt: skip


class TpmError(WatchwordError):
    """The TPM refused a command, or its answer did not stand up to the session that protects it.

    ``rc`` is the raw TPM_RC (0 when the answer itself was the problem), ``command`` the name of the command.
    """

    exit_status = 2

    def __init__(self, code: str, message: str, *, rc: int = 0, command: str = "", hint: str = "") -> None:
        super().__init__(code, message, hint=hint)
        self.rc = rc
        self.command = command


def base_code(rc: int) -> int:
    """``rc`` without the number of the parameter, handle or session it is about (Part 2, 6.6.2)."""
    return rc & 0xBF if rc & 0x80 else rc & 0xFFF


def describe(rc: int) -> str:
    """The name of a response code, with what it is about: ``TPM_RC_INTEGRITY (parameter 1)``."""
    name = f"TPM_RC_{_NAMES.get(base_code(rc), 'unknown')}"
    number = rc >> 8 & 0xF
    if not rc & 0x80 or not number:
        return name
    if rc & 0x40:
        return f"{name} (parameter {number})"
    return f"{name} (session {number & 7})" if number & 8 else f"{name} (handle {number})"


@dataclass(frozen=True, slots=True)
class _Meaning:
    code: str
    message: str
    hint: str = ""


_OTHER_TPM = _Meaning(
    "tpm-other-tpm",
    "this release was sealed for another TPM, or damaged on the way",
    "ask the authority again from this host; a release cannot be carried to another one",
)
_WRONG_CREDENTIAL = _Meaning(
    "tpm-wrong-credential",
    "the credential was made for another TPM or another attestation key",
    "start the enrolment again on this host",
)
_WRONG_PCRS = _Meaning(
    "tpm-wrong-pcrs",
    "the PCR values are not the ones this release was sealed to",
    "the host's measured state differs from the one that was appraised: collect new evidence",
)
_PCR_CHANGED = _Meaning(
    "tpm-pcr-changed", "a PCR changed while the release was being opened, again and again", "try again"
)
_FAILURE = _Meaning(
    "tpm-failure",
    "the TPM reports a failure of its own",
    "power-cycle the host; if it stays, the TPM or its firmware is broken",
)
_AUTH = _Meaning(
    "tpm-auth",
    "the TPM does not accept the authorization",
    "if this host has an endorsement password, give it to the agent",
)
_FULL = _Meaning(
    "tpm-full",
    "the TPM has no room for another object or session",
    "use /dev/tpmrm0, or close whatever else talks to this TPM",
)

# What a command puts into `step` is its name, or for steps that mean something of their own, that meaning.
_BY_STEP: dict[tuple[str, int], _Meaning] = {
    ("TPM2_Import", RC_INTEGRITY): _OTHER_TPM,
    ("TPM2_Import", RC_FAILURE): _OTHER_TPM,  # libtpms, RSA: OAEP does not open
    ("TPM2_Import", RC_VALUE): _OTHER_TPM,
    ("TPM2_Import", RC_SIZE): _OTHER_TPM,
    ("TPM2_Import", RC_ECC_POINT): _OTHER_TPM,
    ("TPM2_Load", RC_INTEGRITY): _OTHER_TPM,
    ("TPM2_Load", RC_BINDING): _OTHER_TPM,
    ("TPM2_ActivateCredential", RC_INTEGRITY): _WRONG_CREDENTIAL,
    ("TPM2_ActivateCredential", RC_FAILURE): _WRONG_CREDENTIAL,
    ("TPM2_ActivateCredential", RC_VALUE): _WRONG_CREDENTIAL,
    ("TPM2_ActivateCredential", RC_SIZE): _WRONG_CREDENTIAL,
    ("TPM2_ActivateCredential", RC_ECC_POINT): _WRONG_CREDENTIAL,
    ("PolicyCounterTimer(resetCount)", RC_POLICY): _Meaning(
        "tpm-wrong-boot",
        "this host was rebooted since it was quoted, so the release does not open any more",
        "collect new evidence in this boot",
    ),
    ("PolicyCounterTimer(clock)", RC_POLICY): _Meaning(
        "tpm-lease-over", "the time in which this release opens is over", "collect new evidence and open it sooner"
    ),
    ("TPM2_Unseal", RC_POLICY_FAIL): _WRONG_PCRS,
    ("TPM2_Unseal", RC_PCR_CHANGED): _PCR_CHANGED,
    ("TPM2_PolicyPCR", RC_VALUE): _WRONG_PCRS,
}
_BY_CODE: dict[int, _Meaning] = {
    RC_INITIALIZE: _Meaning("tpm-not-started", "the TPM was not started", "the firmware sends TPM2_Startup at boot"),
    RC_FAILURE: _FAILURE,
    RC_AUTH_FAIL: _AUTH,
    RC_BAD_AUTH: _AUTH,
    RC_AUTH_UNAVAILABLE: _Meaning("tpm-needs-policy", "this object opens with a policy session only"),
    RC_LOCKOUT: _Meaning(
        "tpm-lockout", "the TPM is locked after wrong authorizations", "wait, or reset the lockout as the owner"
    ),
    RC_RETRY: _Meaning("tpm-busy", "the TPM stayed busy", "try again"),
    RC_YIELDED: _Meaning("tpm-busy", "the TPM stayed busy", "try again"),
    RC_TESTING: _Meaning("tpm-busy", "the TPM is still testing itself", "try again"),
    0x902: _FULL,
    0x903: _FULL,
    0x905: _FULL,
    0x906: _FULL,
}


def tpm_error(step: str, rc: int) -> TpmError:
    """The error for response code ``rc`` of ``step`` (a command's name, or what it was there to check)."""
    base = base_code(rc)
    meaning = _BY_STEP.get((step, base)) or _BY_CODE.get(base)
    if meaning is None:
        meaning = _Meaning("tpm-refused", "the TPM refused a command")
    text = f"{meaning.message} [{step}: {describe(rc)}, 0x{rc:03x}]"
    return TpmError(meaning.code, text, rc=rc, command=step, hint=meaning.hint)
