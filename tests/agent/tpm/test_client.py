"""Every operation against a real emulated TPM. The fixture checks after each test that no handle is left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from watchword.agent.tpm.client import Tpm
from watchword.agent.tpm.commands import Code, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.keys import policy_session
from watchword.agent.tpm.transport import Transport, connect
from watchword.crypto.tpm_key import public_key
from watchword.crypto.tpm_seal import SealedObject, boot_policy, make_credential, seal_object
from watchword.errors import MalformedError, Unavailable
from watchword.testing.farm import SwTpm
from watchword.testing.tap import Tap
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.attest import Attest, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, Selections, pcr_digest
from watchword.wire.tpm.policy import start
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.signature import Signature
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template, nv_certificate_index

KINDS = [EkKind.P256, EkKind.RSA2048, EkKind.P384, EkKind.P256_H]
BOOT: Selections = (PcrSelection(Alg.SHA256, (0, 1, 2, 3, 4, 5, 6, 7, 9)),)
SECRET = b"the secret that nobody on the wire may see"
RETRY = bytes.fromhex("80010000000a00000922")


@dataclasses.dataclass(frozen=True)
class Sealed:
    """A release for one boot of one TPM."""

    blob: SealedObject
    reset_count: int
    clock_limit: int

    def open(self, tpm: Tpm, selections: Selections = BOOT) -> bytes:
        blob = self.blob
        return tpm.import_and_unseal(
            blob.public, blob.duplicate, blob.encrypted_seed, selections, self.reset_count, self.clock_limit
        )


def seal(tpm: Tpm, *, lease: int = 60_000, ek: Public | None = None) -> Sealed:
    """What an authority makes for this TPM in this boot; ``lease`` in milliseconds."""
    clock = tpm.read_clock()
    limit = clock.clock + lease
    values = pcr_digest(Alg.SHA256, BOOT, tpm.read_pcrs(BOOT))
    policy = boot_policy(BOOT, values, clock.reset_count, limit)
    return Sealed(seal_object(ek or tpm.create_ek(), SECRET, policy), clock.reset_count, limit)


def before(code: Code, act: Callable[[Tpm], None], times: int = 1) -> Callable[[int, Transport], None]:
    """A tap that lets ``act`` use the TPM before the first ``times`` commands ``code``."""
    left = [times]

    def hook(current: int, inner: Transport) -> None:
        if current == code and left[0]:
            left[0] -= 1
            act(Tpm(inner))

    return hook


def measure(pcr: int) -> Callable[[Tpm], None]:
    return lambda tpm: tpm.extend(pcr, {Alg.SHA256: digest(Alg.SHA256, b"event")})


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_ek_is_the_same_each_time_and_has_its_template(tpm: Tpm, kind: EkKind) -> None:
    ek = tpm.create_ek(kind)
    assert ek == tpm.create_ek(kind)
    assert ek == ek_template(kind, ek.unique)


@pytest.mark.parametrize("kind", [EkKind.P256, EkKind.RSA2048, EkKind.P384])
def test_the_certificate_in_nv_is_for_that_ek(tpm: Tpm, swtpm: SwTpm, kind: EkKind) -> None:
    certificate = tpm.read_ek_certificate(kind)
    assert certificate == swtpm.certificates[kind]
    assert x509.load_der_x509_certificate(certificate).public_key() == public_key(tpm.create_ek(kind))


def test_no_certificate_is_none(tpm: Tpm) -> None:
    assert tpm.read_ek_certificate(EkKind.RSA3072) is None


def test_the_ak_survives_reboot_and_clear(tpm: Tpm, swtpm: SwTpm) -> None:
    ak, ek = tpm.create_ak(), tpm.create_ek()
    assert dataclasses.replace(ak, unique=AK_TEMPLATE.unique) == AK_TEMPLATE
    assert tpm.create_ak() == ak
    swtpm.init()
    tpm.startup()
    assert tpm.create_ak() == ak
    tpm.clear(Handle.PLATFORM)
    assert (tpm.create_ak(), tpm.create_ek()) == (ak, ek)


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_opens_and_does_not_cross_the_wire_in_clear(swtpm: SwTpm, kind: EkKind) -> None:
    tap = Tap(connect(swtpm.address, 20))
    with Tpm(tap, ek_kind=kind) as tpm:
        secret = b"0123456789abcdef0123456789abcdef"
        credential = make_credential(tpm.create_ek(), tpm.create_ak().name(), secret)
        assert tpm.activate_credential(credential.id_object, credential.encrypted_secret) == secret
        assert tpm.open_handles() == ()
    assert Code.ACTIVATE_CREDENTIAL in tap.codes
    assert secret not in tap.wire


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_for_another_ak_does_not_open(swtpm: SwTpm, kind: EkKind) -> None:
    with swtpm.client(kind) as tpm:
        credential = make_credential(tpm.create_ek(), b"\0\x0b" + bytes(32), bytes(32))
        with pytest.raises(TpmError) as caught:
            tpm.activate_credential(credential.id_object, credential.encrypted_secret)
        assert (caught.value.code, caught.value.rc) == ("tpm-wrong-credential", 0x1DF)
        assert tpm.open_handles() == ()


def test_a_credential_with_bytes_too_many_never_reaches_the_tpm(tpm: Tpm) -> None:
    made = make_credential(tpm.create_ek(), tpm.create_ak().name(), bytes(32))
    with pytest.raises(MalformedError):
        tpm.activate_credential(made.id_object + b"\0", made.encrypted_secret)
    with pytest.raises(MalformedError):
        tpm.activate_credential(made.id_object, made.encrypted_secret + b"\0")


@pytest.mark.parametrize("kind", [EkKind.P256, EkKind.RSA2048])
def test_a_credential_for_another_tpm_does_not_open(swtpm: SwTpm, other_tpm: SwTpm, kind: EkKind) -> None:
    with other_tpm.client(kind) as other:
        ek = other.create_ek()
    with swtpm.client(kind) as tpm:
        credential = make_credential(ek, tpm.create_ak().name(), bytes(32))
        with pytest.raises(TpmError) as caught:
            tpm.activate_credential(credential.id_object, credential.encrypted_secret)
        assert caught.value.code == "tpm-wrong-credential"
        assert tpm.open_handles() == ()


# --- PCRs and quotes ---------------------------------------------------------------------------------------------


def test_pcrs_are_read_in_all_banks(tpm: Tpm) -> None:
    for selection in tpm.banks():
        assert selection.bank in (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)
        assert selection.pcrs == tuple(range(24))
    tpm.extend(4, {Alg.SHA256: digest(Alg.SHA256, b"event"), Alg.SHA1: digest(Alg.SHA1, b"event")})
    values = tpm.read_pcrs(tpm.banks())
    assert values[Alg.SHA256][4] == digest(Alg.SHA256, bytes(32), digest(Alg.SHA256, b"event"))
    assert values[Alg.SHA1][4] == digest(Alg.SHA1, bytes(20), digest(Alg.SHA1, b"event"))
    assert values[Alg.SHA384][4] == bytes(48)
    assert sorted(values[Alg.SHA512]) == list(range(24))


def test_pcrs_that_move_while_they_are_read_are_read_again(swtpm: SwTpm) -> None:
    reads = []

    def move_between(code: int, inner: Transport) -> None:
        reads.append(code)
        if reads.count(Code.PCR_READ) == 2 and code == Code.PCR_READ:
            measure(0)(Tpm(inner))

    with Tpm(Tap(connect(swtpm.address, 20), before=move_between)) as tpm:
        values = tpm.read_pcrs((PcrSelection(Alg.SHA256, tuple(range(16))),))
    # PCR 0 was in the first answer, before it moved: that value would be of another moment than the rest.
    assert values[Alg.SHA256][0] != bytes(32)
    assert reads.count(Code.PCR_READ) == 4


def test_pcrs_that_never_rest_are_an_error(swtpm: SwTpm) -> None:
    tap = Tap(connect(swtpm.address, 20), before=before(Code.PCR_READ, measure(10), times=1000))
    with Tpm(tap) as tpm, pytest.raises(Unavailable) as caught:
        tpm.read_pcrs((PcrSelection(Alg.SHA256, tuple(range(16))),))
    assert caught.value.code == "tpm-pcrs-moving"


def test_a_bank_that_is_not_there_is_an_error(tpm: Tpm) -> None:
    with pytest.raises(TpmError) as caught:
        tpm.read_pcrs((PcrSelection(Alg.SHA3_256, (0,)),))
    assert caught.value.code in ("tpm-no-bank", "tpm-refused")


def test_a_quote_is_signed_by_the_ak_and_carries_what_was_asked(tpm: Tpm) -> None:
    attest, signature, values = tpm.quote_values(BOOT, b"x" * 32)
    parsed, signed = Attest.parse(attest), Signature.parse(signature)
    assert parsed.extra_data == b"x" * 32
    assert isinstance(parsed.attested, QuoteInfo)
    assert parsed.attested.selections == BOOT
    assert parsed.attested.pcr_digest == pcr_digest(Alg.SHA256, BOOT, values)
    assert parsed.clock_info.reset_count == tpm.read_clock().reset_count
    key = public_key(tpm.create_ak())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert signed.r is not None
    assert signed.s is not None
    der = encode_dss_signature(int.from_bytes(signed.r, "big"), int.from_bytes(signed.s, "big"))
    key.verify(der, attest, ec.ECDSA(hashes.SHA256()))


def test_quote_and_values_belong_together_although_pcrs_move(swtpm: SwTpm) -> None:
    tap = Tap(connect(swtpm.address, 20), before=before(Code.PCR_READ, measure(4)))
    with Tpm(tap) as tpm:
        attest, _, values = tpm.quote_values(BOOT, b"")
    parsed = Attest.parse(attest).attested
    assert isinstance(parsed, QuoteInfo)
    assert parsed.pcr_digest == pcr_digest(Alg.SHA256, BOOT, values)
    assert tap.codes.count(Code.QUOTE) == 2


def test_extra_data_too_large_is_our_mistake(tpm: Tpm) -> None:
    with pytest.raises(ValueError, match="64"):
        tpm.quote(BOOT, bytes(65))


# --- releases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_opens_and_does_not_cross_the_wire_in_clear(swtpm: SwTpm, kind: EkKind) -> None:
    tap = Tap(connect(swtpm.address, 20))
    with Tpm(tap, ek_kind=kind) as tpm:
        sealed = seal(tpm)
        assert sealed.open(tpm) == SECRET
        assert sealed.open(tpm) == SECRET
        assert tpm.open_handles() == ()
    assert Code.UNSEAL in tap.codes
    assert SECRET not in tap.wire
    # Not in pieces either: no eight bytes of it.
    assert not any(SECRET[start : start + 8] in tap.wire for start in range(len(SECRET) - 7))


def test_the_largest_secret(tpm: Tpm) -> None:
    clock = tpm.read_clock()
    policy = boot_policy(BOOT, pcr_digest(Alg.SHA256, BOOT, tpm.read_pcrs(BOOT)), clock.reset_count, 1 << 40)
    blob = seal_object(tpm.create_ek(), bytes(range(128)), policy)
    assert Sealed(blob, clock.reset_count, 1 << 40).open(tpm) == bytes(range(128))


def test_wrong_pcrs(tpm: Tpm) -> None:
    sealed = seal(tpm)
    measure(4)(tpm)
    with pytest.raises(TpmError) as caught:
        sealed.open(tpm)
    assert (caught.value.code, caught.value.rc) == ("tpm-wrong-pcrs", 0x99D)


def test_other_pcrs_than_those_sealed_to(tpm: Tpm) -> None:
    with pytest.raises(TpmError) as caught:
        seal(tpm).open(tpm, (PcrSelection(Alg.SHA256, (0, 1)),))
    assert caught.value.code == "tpm-wrong-pcrs"


def test_pcr_extended_between_policy_and_unseal(swtpm: SwTpm) -> None:
    tap = Tap(connect(swtpm.address, 20), before=before(Code.UNSEAL, measure(4)))
    with Tpm(tap) as tpm:
        sealed = seal(tpm)
        with pytest.raises(TpmError) as caught:
            sealed.open(tpm)
        # The first Unseal failed with PCR_CHANGED, the second one, with the new values, for good.
        assert tap.codes.count(Code.UNSEAL) == 2
        assert caught.value.code == "tpm-wrong-pcrs"
        assert tpm.open_handles() == ()


def test_a_pcr_outside_the_seal_may_move(swtpm: SwTpm) -> None:
    tap = Tap(connect(swtpm.address, 20), before=before(Code.UNSEAL, measure(10), times=3))
    with Tpm(tap) as tpm:
        assert seal(tpm).open(tpm) == SECRET
    assert tap.codes.count(Code.UNSEAL) == 4


def test_pcrs_that_never_rest_end_in_an_error(swtpm: SwTpm) -> None:
    tap = Tap(connect(swtpm.address, 20), before=before(Code.UNSEAL, measure(10), times=1000))
    with Tpm(tap) as tpm:
        with pytest.raises(TpmError) as caught:
            seal(tpm).open(tpm)
        assert (caught.value.code, caught.value.rc) == ("tpm-pcr-changed", 0x128)
        assert tpm.open_handles() == ()


def test_reboot_after_the_quote(tpm: Tpm, swtpm: SwTpm) -> None:
    sealed = seal(tpm)
    swtpm.init()
    tpm.startup()
    with pytest.raises(TpmError) as caught:
        sealed.open(tpm)
    assert (caught.value.code, caught.value.rc) == ("tpm-wrong-boot", 0x126)
    lie = dataclasses.replace(sealed, reset_count=sealed.reset_count + 1)
    with pytest.raises(TpmError) as caught:
        lie.open(tpm)
    assert caught.value.code == "tpm-wrong-pcrs"  # the policy is another one


def test_reboot_between_policy_and_unseal(swtpm: SwTpm) -> None:
    def reboot(tpm: Tpm) -> None:
        swtpm.init()
        tpm.startup()

    with Tpm(Tap(connect(swtpm.address, 20), before=before(Code.UNSEAL, reboot))) as tpm:
        sealed = seal(tpm)
        with pytest.raises(TpmError) as caught:
            sealed.open(tpm)
        assert caught.value.command == "TPM2_Unseal"
        assert tpm.open_handles() == ()


def test_lease_over(tpm: Tpm) -> None:
    sealed = seal(tpm, lease=0)
    with pytest.raises(TpmError) as caught:
        sealed.open(tpm)
    assert (caught.value.code, caught.value.rc) == ("tpm-lease-over", 0x126)
    longer = dataclasses.replace(sealed, clock_limit=sealed.clock_limit + 60_000)
    with pytest.raises(TpmError) as caught:
        longer.open(tpm)
    assert caught.value.code == "tpm-wrong-pcrs"


@pytest.mark.parametrize(("kind", "rc"), [(EkKind.P256, 0x3DF), (EkKind.RSA2048, 0x101)])
def test_a_release_for_another_tpm(swtpm: SwTpm, other_tpm: SwTpm, kind: EkKind, rc: int) -> None:
    with other_tpm.client(kind) as other:
        ek = other.create_ek()
    with swtpm.client(kind) as tpm:
        with pytest.raises(TpmError) as caught:
            seal(tpm, ek=ek).open(tpm)
        assert (caught.value.code, caught.value.rc) == ("tpm-other-tpm", rc)
        assert tpm.open_handles() == ()


def test_tpm_cleared_after_the_seal(other_tpm: SwTpm) -> None:
    with other_tpm.client() as tpm:
        other_tpm.init()
        tpm.startup()
        sealed = seal(tpm)
        assert sealed.reset_count > 0
        tpm.clear(Handle.PLATFORM)
        assert tpm.read_clock().reset_count == 0
        with pytest.raises(TpmError) as caught:
            sealed.open(tpm)
        assert caught.value.code == "tpm-wrong-boot"
        assert tpm.open_handles() == ()


def test_a_policy_is_needed(tpm: Tpm) -> None:
    blob = seal_object(tpm.create_ek(), SECRET, start())
    with pytest.raises(TpmError) as caught:
        Sealed(blob, tpm.read_clock().reset_count, 1 << 40).open(tpm)
    assert caught.value.code == "tpm-wrong-pcrs"


@pytest.mark.parametrize("part", ["public", "duplicate", "encrypted_seed"])
def test_a_changed_blob_does_not_open(tpm: Tpm, part: str) -> None:
    sealed = seal(tpm)
    data = bytearray(getattr(sealed.blob, part))
    data[-1] ^= 1
    changed = dataclasses.replace(sealed, blob=dataclasses.replace(sealed.blob, **{part: bytes(data)}))
    with pytest.raises(TpmError) as caught:
        changed.open(tpm)
    assert caught.value.code == "tpm-other-tpm"


@pytest.mark.parametrize("part", ["public", "duplicate", "encrypted_seed"])
def test_a_blob_with_bytes_too_many_never_reaches_the_tpm(tpm: Tpm, part: str) -> None:
    sealed = seal(tpm)
    blob = dataclasses.replace(sealed.blob, **{part: getattr(sealed.blob, part) + b"\0"})
    with pytest.raises(MalformedError):
        dataclasses.replace(sealed, blob=blob).open(tpm)


# --- state -------------------------------------------------------------------------------------------------------


def test_reset_count_and_clock(tpm: Tpm, swtpm: SwTpm) -> None:
    first = tpm.read_clock()
    tpm.shutdown()
    swtpm.init()
    with pytest.raises(TpmError) as caught:
        tpm.read_clock()
    assert caught.value.code == "tpm-not-started"
    tpm.startup()
    second = tpm.read_clock()
    assert second.reset_count == first.reset_count + 1
    assert second.safe == first.safe  # an orderly reboot does not make the clock doubtful
    assert second.clock >= first.clock


def test_properties(tpm: Tpm) -> None:
    found = tpm.properties()
    assert found[0x105] == int.from_bytes(b"IBM\0", "big")  # TPM_PT_MANUFACTURER of libtpms
    assert found[0x10E] == 3  # TPM_PT_HR_TRANSIENT_MIN


def test_open_handles_sees_what_is_loaded(tpm: Tpm) -> None:
    with tpm._ek() as ek, policy_session(tpm.channel, ek) as session:
        assert tpm.open_handles() == (ek.entity.handle, session.handle)


def test_a_persistent_ek_is_used_and_kept(other_tpm: SwTpm) -> None:
    """What a TPM needs many seconds for (RSA) is not made again; another persistent key is not taken for it."""
    tap = Tap(connect(other_tpm.address, 20))
    with Tpm(tap, ek_kind=EkKind.RSA2048) as tpm:
        ek = tpm.create_ek()
        persist(tpm, AK_TEMPLATE, 0x81010000)
        persist(tpm, ek_template(EkKind.RSA2048), 0x81010001)
        tap.codes.clear()
        assert tpm.create_ek() == ek
        assert seal(tpm).open(tpm) == SECRET
        assert Code.CREATE_PRIMARY not in tap.codes
        assert tpm.create_ek(EkKind.P256) == ek_template(EkKind.P256, tpm.create_ek(EkKind.P256).unique)
        assert tpm.open_handles() == ()
        tpm.clear(Handle.PLATFORM)
        assert tpm.create_ek() == ek


def persist(tpm: Tpm, template: Public, handle: int) -> None:
    """TPM2_EvictControl by the owner, which an installer may do and no agent needs."""
    auth = bytes.fromhex("400000090000010000")
    with tpm._primary(template) as key:
        body = bytes.fromhex("40000001") + key.entity.handle.to_bytes(4, "big") + len(auth).to_bytes(4, "big") + auth
        raw(tpm, 0x120, body + handle.to_bytes(4, "big"))


def raw(tpm: Tpm, code: int, body: bytes) -> None:
    """A command with an authorization that the client does not know."""
    command = b"\x80\x02" + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body
    assert tpm.channel._transport.send(command)[6:10] == bytes(4)


def test_an_endorsement_password(other_tpm: SwTpm) -> None:
    password = b"operator's word"
    other_tpm.reset()
    with other_tpm.client() as tpm:
        set_endorsement_auth(tpm, password)
    try:
        with other_tpm.client() as tpm, pytest.raises(TpmError) as caught:
            tpm.create_ek()
        assert caught.value.code == "tpm-auth"
        assert password.decode() not in str(caught.value)
        with Tpm.open(other_tpm.address, endorsement_auth=password) as tpm:
            assert seal(tpm).open(tpm) == SECRET
            assert tpm.open_handles() == ()
    finally:
        with other_tpm.client() as tpm:
            tpm.clear(Handle.PLATFORM)


def set_endorsement_auth(tpm: Tpm, password: bytes) -> None:
    """TPM2_HierarchyChangeAuth, which no agent needs."""
    auth = bytes.fromhex("400000090000010000")
    body = b"\x40\0\0\x0b" + len(auth).to_bytes(4, "big") + auth + len(password).to_bytes(2, "big") + password
    raw(tpm, 0x129, body)


# --- a hostile or busy wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [Code.IMPORT, Code.LOAD, Code.UNSEAL, Code.ACTIVATE_CREDENTIAL])
@pytest.mark.parametrize("from_end", [1, 40, 70])
def test_a_response_changed_on_the_wire_is_refused(swtpm: SwTpm, code: Code, from_end: int) -> None:
    """The last bytes are the HMAC, before it attributes and nonce, before those the parameters."""

    def change(current: int, response: bytes) -> bytes:
        if current != code or response[6:10] != bytes(4):
            return response
        data = bytearray(response)
        data[-from_end] ^= 1
        return bytes(data)

    tap = Tap(connect(swtpm.address, 20), after=change)
    with Tpm(tap) as tpm:
        sealed = seal(tpm)
        made = make_credential(tpm.create_ek(), tpm.create_ak().name(), bytes(32))
        credential = (made.id_object, made.encrypted_secret)
        activates = code is Code.ACTIVATE_CREDENTIAL
        with pytest.raises((TpmError, MalformedError)) as caught:
            tpm.activate_credential(*credential) if activates else sealed.open(tpm)
        assert caught.value.code in ("tpm-response-forged", "malformed")
        assert tpm.open_handles() == ()


def test_a_busy_tpm_gets_the_same_bytes_again(swtpm: SwTpm) -> None:
    answers = [RETRY, RETRY]
    tap = Tap(connect(swtpm.address, 20), after=lambda _, response: answers.pop() if answers else response)
    with Tpm(tap) as tpm:
        tpm.read_clock()
    assert tap.codes == [Code.READ_CLOCK] * 3


def test_a_tpm_that_breaks_off_in_the_middle_is_unavailable(swtpm: SwTpm) -> None:
    """What counts is the first error, not that the clean-up fails too."""
    tap: Tap

    def cut(code: int, _: Transport) -> None:
        if code == Code.UNSEAL:
            tap.close()

    tap = Tap(connect(swtpm.address, 20), before=cut)
    with Tpm(tap) as tpm, pytest.raises(Unavailable) as caught:
        seal(tpm).open(tpm)
    assert caught.value.code == "tpm-gone"


def test_another_key_than_the_one_asked_for_is_refused(swtpm: SwTpm) -> None:
    """A wire that swaps the EK for an unrestricted key would learn the salt of every session."""

    def swap(code: int, response: bytes) -> bytes:
        attributes = ek_template(EkKind.P256).attributes.to_bytes(4, "big")
        return response.replace(attributes, bytes.fromhex("00020072")) if code == Code.CREATE_PRIMARY else response

    with Tpm(Tap(connect(swtpm.address, 20), after=swap)) as tpm:
        with pytest.raises(TpmError) as caught:
            tpm.create_ek()
        assert caught.value.code == "tpm-key"
        assert tpm.open_handles() == ()


def test_power_loss_again_and_again(other_tpm: SwTpm) -> None:
    """Each boot without TPM2_Shutdown counts against keys under dictionary attack protection that were used before.

    A TPM allows three such boots: an AK with that protection would leave a host that crashed without quotes.
    """
    for _ in range(5):
        other_tpm.reset()
        with other_tpm.client(EkKind.P256_H) as tpm:
            tpm.quote(BOOT, b"")
            assert seal(tpm).open(tpm) == SECRET


def test_certificate_indices_are_those_of_the_profile() -> None:
    assert nv_certificate_index(EkKind.RSA2048) == 0x01C00002
    assert nv_certificate_index(EkKind.P256) == 0x01C0000A
    assert nv_certificate_index(EkKind.P384) == 0x01C00016
