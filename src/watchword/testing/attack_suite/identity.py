"""Attacks on identity: clauses A1 to A4."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec.structs import replace

from watchword.conformance.scenario import Inputs, Pin
from watchword.crypto.tpm_key import PublicKey, public_key
from watchword.testing.attack_suite.bench import Bench, changed
from watchword.testing.attack_suite.machine import AKS, unrestricted
from watchword.testing.ek_authority import EkAuthority
from watchword.verify.ek import EkClass
from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.attest import Attest, QuoteInfo
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccParameters, Scheme, Symmetric

__all__ = ["add_identity"]

_OF = "good-enrolment"
_MAY_NOT_SIGN = "EK certificate of a CA that may not sign"
_NO_RESTRICTED = "AK without restricted"


def add_identity(bench: Bench) -> None:
    _chains(bench)
    _certificates(bench)
    _public_areas(bench)
    _attestation_keys(bench)
    _forged_by_unrestricted(bench)


def _chains(bench: Bench) -> None:
    """A1: who signed."""

    def attack(name: str, what: str, makers: EkAuthority, text: str, mark: str = " !") -> None:
        inputs = changed(
            bench[_OF].inputs, certificate=makers.issue(bench.machine.ek), intermediates=makers.intermediates
        )
        bench.attack(f"identity-{name}", what, _OF, ("ek-certificate", text), inputs, f"A1 ek-chain{mark}")

    stranger, name = EkAuthority.create("Stranger"), "Emulated TPM"
    attack("unknown-maker", "untrusted-host launch", stranger, "a maker that nobody trusts")
    attack("borrowed-name", _MAY_NOT_SIGN, EkAuthority.create(name), "a maker with the name of a trusted one")
    attack("careless-maker", _MAY_NOT_SIGN, bench.careless, "the intermediate authority lacks keyCertSign")
    attack("leaf-as-ca", _MAY_NOT_SIGN, _leaf_authority(bench), "signed by a key that has an EK certificate itself")
    below = dataclasses.replace(bench.makers, intermediates=())
    text = "the intermediate certificate is missing, so nothing leads up"
    attack("no-intermediate", _MAY_NOT_SIGN, below, text, mark="")


def _leaf_authority(bench: Bench) -> EkAuthority:
    """A certificate of the trusted maker that is no authority's, used as one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a TPM")])
    leaf = _issue(bench.makers, key.public_key(), name)
    return EkAuthority(bench.makers.root, (leaf, *bench.makers.intermediates), key, name)


def _issue(makers: EkAuthority, key: PublicKey, name: x509.Name, *more: x509.ExtensionType) -> bytes:
    """A certificate by ``makers`` for something that is no authority."""
    issuer = x509.load_der_x509_certificate(makers.intermediates[0])
    builder = x509.CertificateBuilder(
        issuer.subject, name, key, 7, datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
    )
    for extension in (x509.BasicConstraints(False, None), *more):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(makers._key, hashes.SHA256()).public_bytes(Encoding.DER)


def _certificates(bench: Bench) -> None:
    """A1: what the certificate says of itself."""
    good, ek = bench[_OF].inputs, bench.machine.ek

    def attack(name: str, text: str, code: str, certificate: bytes) -> None:
        inputs = changed(good, certificate=certificate)
        bench.attack(f"identity-{name}", _MAY_NOT_SIGN, _OF, ("ek-certificate", text), inputs, f"A1 {code}")

    late, early = datetime(2021, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    issue, own = bench.makers.issue, bench.machine.certificate
    attack("ca-as-tpm", "the certificate is an authority's", "ek-certificate-ca !", issue(ek, is_ca=True))
    attack("expired", "the certificate has expired", "ek-chain", issue(ek, not_after=late))
    attack("not-yet-valid", "the certificate is not valid yet", "ek-chain", issue(ek, not_before=early))
    attack("altered", "one bit of the signature is another", "ek-chain !", own[:-1] + bytes([own[-1] ^ 1]))
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a web server")])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    own = _issue(bench.makers, public_key(ek), server, purpose)
    attack("other-purpose", "the certificate of the trusted maker is for a web server", "ek-usage !", own)
    text = "at this time the authorities have expired"
    inputs = replace(good, time=2_600_000_000)  # 2052
    bench.attack("identity-expired-maker", _MAY_NOT_SIGN, _OF, ("time", text), inputs, "A1 ek-chain")
    inputs = replace(good, classes=(EkClass.HARDWARE,))
    broken = ("classes", "the verifier accepts hardware, the maker only makes emulated ones")
    posing = "emulated TPM posing as hardware"
    bench.attack("identity-emulated", posing, _OF, broken, inputs, "A1 ek-chain !")


def _public_areas(bench: Bench) -> None:
    """A1 and A2: keys without a certificate, and keys that are no endorsement keys."""
    of = "good-enrolment-pinned"
    good = bench[of].inputs
    pin = Pin(ek_class=EkClass.VIRTUAL, public=bench.other.ek.encode())
    name, broken = "other host's EK", ("pins", "another key is pinned")
    bench.attack("identity-not-pinned", name, of, broken, replace(good, pins=(pin,)), "A1 ek-not-pinned !")
    loose = dataclasses.replace(bench.machine.ek, attributes=bench.machine.ek.attributes & ~Attributes.FIXED_TPM)
    inputs = replace(good, pins=(Pin(ek_class=EkClass.VIRTUAL, public=loose.encode()),))
    inputs = changed(inputs, public=loose.encode())
    broken = ("ek-public", "the pinned key may leave its TPM: no endorsement key")
    bench.attack("identity-no-template", name, of, broken, inputs, "A2 ek-template")
    inputs = changed(bench[_OF].inputs, template="RSA2048")
    broken = ("ek-template", "the certified key is not one that the template makes")
    bench.attack("identity-other-template", name, _OF, broken, inputs, "A2 ek-key")


def _attestation_keys(bench: Bench) -> None:
    """A3 and A4: keys that the TPM really made, and the key of somebody else's TPM."""
    good = bench[_OF].inputs

    def attack(name: str, text: str, template: Public, stopped_by: str) -> None:
        ak, credential = bench.machine.attestation_key(template), bench.machine.credential(template)
        inputs = replace(good, ak_public=ak.encode(), credential=credential)
        bench.attack(f"identity-ak-{name}", _NO_RESTRICTED, _OF, ("ak", text), inputs, stopped_by)

    ak = AKS["p256"]
    attack("unrestricted", "the key signs anything", unrestricted(), "A3 ak-attributes !")
    free = ak.attributes & ~(Attributes.FIXED_TPM | Attributes.FIXED_PARENT)
    text = "the key may leave its TPM"
    attack("duplicable", text, dataclasses.replace(ak, attributes=free), "A3 ak-attributes !")
    weak = EccParameters(Symmetric(Alg.NULL), Scheme(Alg.ECDSA, Alg.SHA1), Curve.P256, Scheme(Alg.NULL))
    attack("sha1", "the key signs SHA-1 digests", dataclasses.replace(ak, parameters=weak), "A3 ak-algorithm")
    inputs = changed(good, certificate=bench.other.certificate)
    inputs = replace(inputs, credential=bench.machine.credential(ak, bench.other.ek))
    broken = ("ek", "the EK certificate of another host, so the TPM could not open the credential")
    bench.attack("identity-other-ek", "other host's EK", _OF, broken, inputs, "A4 ak-proof !")
    stolen = replace(good, credential=replace(good.credential, answer=good.credential.expected[::-1]))
    broken = ("ak", "the answer is not what the credential holds")
    bench.attack("identity-wrong-answer", "other host's EK", _OF, broken, stolen, "A4 ak-proof !")


def _forged_by_unrestricted(bench: Bench) -> None:
    """A3: a machine in another boot signs, with a key that signs anything, what the verifier wants to see."""
    of, template = "good-boot", unrestricted()
    control = bench[of].inputs
    assert control.evidence is not None
    bench.machine.boot(bench.recorded("kernel").without_runtime())
    ak = bench.machine.attestation_key(template)
    forged = dataclasses.replace(Attest.parse(control.evidence.attest), qualified_signer=ak.name()).encode()
    assert isinstance(Attest.parse(forged).attested, QuoteInfo)
    inputs: Inputs = replace(control, ak_public=ak.encode(), credential=bench.machine.credential(template))
    inputs = changed(inputs, attest=forged, signature=bench.machine.sign(template, forged))
    broken = ("ak", "a machine in another state wrote this quote itself and had its key sign it")
    bench.attack("identity-ak-forges", _NO_RESTRICTED, of, broken, inputs, "A3 ak-attributes !")
