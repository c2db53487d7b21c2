"""Response codes in words."""

from __future__ import annotations

import pytest

from watchword.agent.tpm.errors import base_code, describe, tpm_error


@pytest.mark.parametrize(
    ("rc", "text"),
    [
        (0x1DF, "TPM_RC_INTEGRITY (parameter 1)"),
        (0x3DF, "TPM_RC_INTEGRITY (parameter 3)"),
        (0x128, "TPM_RC_PCR_CHANGED"),
        (0x126, "TPM_RC_POLICY"),
        (0x99D, "TPM_RC_POLICY_FAIL (session 1)"),
        (0x12F, "TPM_RC_AUTH_UNAVAILABLE"),
        (0x101, "TPM_RC_FAILURE"),
        (0x18B, "TPM_RC_HANDLE (handle 1)"),
        (0x084, "TPM_RC_VALUE"),
        (0x922, "TPM_RC_RETRY"),
        (0x1FF, "TPM_RC_unknown (parameter 1)"),
    ],
)
def test_describe(rc: int, text: str) -> None:
    assert describe(rc) == text


@pytest.mark.parametrize(
    ("step", "rc", "code"),
    [
        ("TPM2_ActivateCredential", 0x1DF, "tpm-wrong-credential"),
        ("TPM2_Import", 0x3DF, "tpm-other-tpm"),
        ("TPM2_Import", 0x101, "tpm-other-tpm"),
        ("TPM2_Quote", 0x101, "tpm-failure"),
        ("TPM2_Unseal", 0x99D, "tpm-wrong-pcrs"),
        ("TPM2_Unseal", 0x128, "tpm-pcr-changed"),
        ("TPM2_Unseal", 0x12F, "tpm-needs-policy"),
        ("PolicyCounterTimer(resetCount)", 0x126, "tpm-wrong-boot"),
        ("PolicyCounterTimer(clock)", 0x126, "tpm-lease-over"),
        ("TPM2_ReadClock", 0x100, "tpm-not-started"),
        ("TPM2_CreatePrimary", 0x902, "tpm-full"),
        ("TPM2_CreatePrimary", 0x9A2, "tpm-auth"),
        ("TPM2_Quote", 0x922, "tpm-busy"),
        ("TPM2_Quote", 0x921, "tpm-lockout"),
        ("TPM2_Quote", 0x2C4, "tpm-refused"),
    ],
)
def test_the_step_gives_a_response_code_its_meaning(step: str, rc: int, code: str) -> None:
    error = tpm_error(step, rc)
    assert (error.code, error.rc, error.command) == (code, rc, step)
    assert step in str(error)
    assert f"0x{rc:03x}" in str(error)
    assert error.exit_status == 2


def test_base_code_drops_what_the_code_is_about() -> None:
    assert base_code(0x1DF) == base_code(0x3DF) == base_code(0x99F) == 0x09F
    assert base_code(0x128) == 0x128
