"""What the authority wraps for a TPM, opened by other people's code: a real swtpm driven by tpm2-tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from watchword.crypto.tpm_key import public_key
from watchword.crypto.tpm_seal import SealedObject, boot_policy, make_credential, seal_object
from watchword.errors import MalformedError
from watchword.testing.tpm2_tools import Tpm2Tools, missing_programs, tpm2_tools
from watchword.testing.tpm_keys import TpmKeys
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection, pcr_digest
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccPoint
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

SECRET = bytes(range(32))
BOOT = (PcrSelection(Alg.SHA256, (0, 4, 7)),)
KINDS = [EkKind.P256, EkKind.RSA2048, EkKind.P384]


@pytest.fixture
def tools() -> Iterator[Tpm2Tools]:
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with tpm2_tools() as tools:
        yield tools


def _pcr_digest(tools: Tpm2Tools) -> bytes:
    return pcr_digest(Alg.SHA256, BOOT, tools.pcrs((0, 4, 7)))


def _import(tools: Tpm2Tools, ek: Public, sealed: SealedObject) -> None:
    tools.write("object.pub", sealed.public)
    tools.write("object.dup", sealed.duplicate)
    tools.write("object.seed", sealed.encrypted_seed)
    parent = ["-C", "ek.ctx", *tools.auth(ek)]
    files = ["-u", "object.pub", "-i", "object.dup", "-s", "object.seed", "-r", "object.priv"]
    tools.run("tpm2_import", *parent, "-G", "keyedhash", *files)
    parent = ["-C", "ek.ctx", *tools.auth(ek)]
    tools.run("tpm2_load", *parent, "-u", "object.pub", "-r", "object.priv", "-c", "object.ctx")


def _unseal(tools: Tpm2Tools, reset_count: int, limit: int, *, succeed: bool = True) -> bytes:
    tools.run("tpm2_startauthsession", "--policy-session", "-S", "boot.session")
    tools.run("tpm2_policypcr", "-S", "boot.session", "-l", "sha256:0,4,7")
    tools.run("tpm2_policycountertimer", "-S", "boot.session", f"resets={reset_count}")
    tools.run("tpm2_policycountertimer", "-S", "boot.session", "--ult", f"clock={limit}")
    return tools.run("tpm2_unseal", "-c", "object.ctx", "-p", "session:boot.session", succeed=succeed)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_real_tpm_opens_what_was_sealed_for_its_boot(tools: Tpm2Tools, kind: EkKind) -> None:
    ek, clock = tools.make_ek(kind), tools.clock()
    limit = clock.clock + 600_000
    sealed = seal_object(ek, SECRET, boot_policy(BOOT, _pcr_digest(tools), clock.reset_count, limit))
    _import(tools, ek, sealed)
    assert _unseal(tools, clock.reset_count, limit) == SECRET
    tools.run("tpm2_pcrextend", "4:sha256=" + "11" * 32)
    assert b"0x99d" in _unseal(tools, clock.reset_count, limit, succeed=False)


def test_another_reset_count_or_limit_does_not_open(tools: Tpm2Tools) -> None:
    ek, clock = tools.make_ek(EkKind.P256), tools.clock()
    limit = clock.clock + 600_000
    wrong = boot_policy(BOOT, _pcr_digest(tools), clock.reset_count + 1, limit)
    _import(tools, ek, seal_object(ek, SECRET, wrong))
    assert b"0x99d" in _unseal(tools, clock.reset_count, limit, succeed=False)
    wrong = boot_policy(BOOT, _pcr_digest(tools), clock.reset_count, limit)
    _import(tools, ek, seal_object(ek, SECRET, wrong))
    assert b"0x99d" in _unseal(tools, clock.reset_count, limit + 1, succeed=False)


def test_without_a_policy_session_it_stays_shut(tools: Tpm2Tools) -> None:
    ek = tools.make_ek(EkKind.P256)
    _import(tools, ek, seal_object(ek, SECRET, bytes(32)))
    assert b"0x12f" in tools.run("tpm2_unseal", "-c", "object.ctx", succeed=False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_real_tpm_activates_a_credential(tools: Tpm2Tools, kind: EkKind) -> None:
    ek, ak = tools.make_ek(kind), tools.make_ak()
    assert (ak.parameters, ak.attributes) == (AK_TEMPLATE.parameters, AK_TEMPLATE.attributes)
    assert tools.activate(ek, make_credential(ek, ak.name(), SECRET)) == SECRET
    other = make_credential(ek, ak.name()[:-1] + bytes([ak.name()[-1] ^ 1]), SECRET)
    assert b"0x1df" in tools.activate(ek, other, succeed=False)


# --- without a TPM --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def tpm(request: pytest.FixtureRequest) -> TpmKeys:
    return TpmKeys(request.param)


def test_only_the_right_key_opens(tpm: TpmKeys) -> None:
    sealed, credential = seal_object(tpm.ek, SECRET, bytes(32)), make_credential(tpm.ek, tpm.ak.name(), SECRET)
    assert (tpm.open_sealed(sealed), tpm.activate(credential)) == (SECRET, SECRET)
    other = TpmKeys(tpm.kind)
    with pytest.raises(ValueError):
        other.open_sealed(sealed)
    with pytest.raises(ValueError):
        tpm.activate(credential, other.ak.name())


def test_nothing_repeats(tpm: TpmKeys) -> None:
    one, two = (seal_object(tpm.ek, SECRET, bytes(32)) for _ in range(2))
    assert one.public != two.public
    assert one.duplicate != two.duplicate
    assert one.encrypted_seed != two.encrypted_seed


def test_a_sealed_object_can_only_be_opened_by_its_policy(tpm: TpmKeys) -> None:
    public = Public.parse_2b(seal_object(tpm.ek, SECRET, b"p" * 32).public)
    assert public.auth_policy == b"p" * 32
    assert public.attributes == Attributes.ADMIN_WITH_POLICY | Attributes.NO_DA


@pytest.mark.parametrize("size", [0, 129])
def test_sealed_size(tpm: TpmKeys, size: int) -> None:
    with pytest.raises(ValueError):
        seal_object(tpm.ek, bytes(size), bytes(32))
    with pytest.raises(ValueError):
        seal_object(tpm.ek, SECRET, bytes(31))


def test_credential_size(tpm: TpmKeys) -> None:
    for size in (0, 49):
        with pytest.raises(ValueError):
            make_credential(tpm.ek, tpm.ak.name(), bytes(size))


def test_a_key_that_cannot_be_wrapped_to() -> None:
    signing = TpmKeys().ak
    with pytest.raises(MalformedError, match="AES"):
        make_credential(signing, signing.name(), SECRET)
    off_curve = ek_template(EkKind.P256, EccPoint(b"\1" * 32, b"\1" * 32))
    with pytest.raises(MalformedError, match="curve"):
        seal_object(off_curve, SECRET, bytes(32))
    for bad in (bytes(256), b"\xff" * 255 + b"\xfe", b"\xff" * 100):
        with pytest.raises(MalformedError):
            public_key(ek_template(EkKind.RSA2048, bad))


def test_boot_policy_depends_on_every_argument() -> None:
    other = (PcrSelection(Alg.SHA256, (0, 4)),)
    policies = {
        boot_policy(BOOT, bytes(32), 1, 2),
        boot_policy(other, bytes(32), 1, 2),
        boot_policy(BOOT, bytes(31) + b"1", 1, 2),
        boot_policy(BOOT, bytes(32), 2, 2),
        boot_policy(BOOT, bytes(32), 1, 1),
    }
    assert len(policies) == 5
