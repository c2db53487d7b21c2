"""Other people's certificates: each is judged as its own source says, and never more kindly than OpenSSL judges it.

The certificates stay where they are, beside the checkout. Honest exceptions are in the tables at the top.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from watchword.cli.inspect_tpm import describe_ek_certificate
from watchword.errors import MalformedError, Rejected
from watchword.verify.certificate import Certificate, pem_certificates, read_stored
from watchword.verify.chain import find_chain
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, host_id, rebuild_public, verify_ek, verify_pinned_ek
from watchword.verify.roots import Collected, IntermediatePool, RootBundle, collect
from watchword.wire.tpm.templates import EkKind

NOW = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
IN_2020 = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())

STORE = "immune-gmbh+guard-oss/ca/guard-oss-trustedtpm.pem"
ROOTS = "loicsikidi+tpm-ca-certificates/ca/MIRROR.tpm-ca-certificates.pem"
ROOTS_LIST = "loicsikidi+tpm-ca-certificates/ca/tpm-roots.yaml"
INTERMEDIATES = "loicsikidi+tpm-ca-certificates/ca/MIRROR.tpm-intermediate-ca-certificates.pem"

Trusted = tuple[tuple[TrustAnchor, ...], IntermediatePool]

# EK certificates: the kind of key, and the verdict with every authority of the collection trusted. "at 2020" where the
# certificate itself has ended since.
OK, SHA1 = "accepted", "its signature uses SHA-1"
EK_CERTIFICATES = {
    "immune-gmbh+guard-oss/ekcerts/philippEK_0.pem": (EkKind.RSA2048, NOW, OK, ()),
    "keylime+keylime/certs/test/test_certificate_modeltype-b64-0.der":
        (EkKind.RSA2048, NOW, OK, ("ek-name-order", "ek-name-order")),
    "openeuler-mirror+kunpengsecl/ekcerts/RSA_EK_cert.bin": (EkKind.RSA2048, NOW, OK, ("ek-certificate-padding",)),
    "nsacyber+paccor/ekcerts/sample_testgen1_ek.crt": (EkKind.RSA2048, NOW, OK, ()),
    "google+go-tpm-tools/certs/uca_tpm_ecc_enc_cert.pem": (EkKind.P256, NOW, OK, ()),
    "google+go-tpm-tools/certs/uca_tpm_rsa_enc_cert.pem": (EkKind.RSA2048, NOW, OK, ()),
    # Certificates of signing keys, not of endorsement keys.
    "google+go-tpm-tools/certs/uca_tpm_ecc_sign_cert.pem": (EkKind.P256, NOW, "ek-usage", ()),
    "google+go-tpm-tools/certs/uca_tpm_rsa_sign_cert.pem": (EkKind.RSA2048, NOW, "ek-usage", ()),
    # A maker's first TPMs 2.0, certified for ten years with SHA-1: such a host has to be pinned.
    "nsacyber+HIRS/ekcerts/nuc-1_tpmcert.pem": (EkKind.RSA2048, NOW, "it has expired", ()),
    "nsacyber+HIRS/ekcerts/nuc-1_ek_cert_untouched.cer": (EkKind.RSA2048, IN_2020, SHA1, ()),
    "nsacyber+HIRS/ekcerts/nuc-1_ek_cert_7_byte_header_removed.cer": (EkKind.RSA2048, IN_2020, SHA1, ()),
    # Examples from a specification, valid in 2014, of an authority that does not exist.
    "simp+pupmod-simp-tpm2/ekcerts/tcg-example-nonuser-device.der": (EkKind.RSA2048, NOW, "it has expired", ()),
    "simp+pupmod-simp-tpm2/ekcerts/tcg-example-user-device.der": (EkKind.RSA2048, NOW, "it has expired", ()),
    # Certificates of something else: a self-signed server, a processor's key, authorities.
    "keylime+keylime/certs/test/test_certificate_modeltype-0.pem": (EkKind.RSA4096, NOW, "it has expired", ()),
    "confidential-containers+trustee/az-snp-vtpm/vcek.pem": (EkKind.P384, NOW, "has parameters", ()),
    "nsacyber+HIRS/malformed/certificate_expired.crt": (EkKind.RSA2048, NOW, "ek-certificate-ca", ()),
    "nsacyber+HIRS/malformed/certificate_valid2035.crt": (EkKind.RSA2048, NOW, "ek-certificate-ca", ()),
    "nsacyber+HIRS/ekcerts/stMicroCaCerts_stmtpmekint02.crt": (EkKind.RSA2048, NOW, "ek-certificate-ca", ()),
}  # fmt: skip

# Where OpenSSL is content and we are not, and how often.
STRICTER = {
    SHA1: 28,  # an older maker's intermediates and two roots; OpenSSL does not look at a root's own signature
    "has parameters": 4,  # RSASSA-PSS: the certificates of a processor, not of TPMs
    "it may not sign certificates": 2,  # self-signed tests without a key usage
}


def _files(corpus: Path) -> Iterator[Path]:
    for path in sorted(corpus.rglob("*")):
        if path.suffix in (".cer", ".crt", ".der", ".pem") and "secureboot" not in path.parts:
            yield path
    yield corpus / "openeuler-mirror+kunpengsecl/ekcerts/RSA_EK_cert.bin"


def _ders(path: Path) -> list[bytes]:
    data = path.read_bytes()
    found = list(pem_certificates(data))
    return found if found or b"-----BEGIN" in data else [data]


@pytest.fixture(scope="module")
def everything(corpus: Path) -> dict[bytes, Certificate]:
    """Every certificate that parses, by its bytes."""
    found = {}
    for path in _files(corpus):
        if path.parent.name != "attrcerts":
            for data in _ders(path):
                stored = read_stored(data)
                found[stored.der] = stored.certificate
    return found


def _authorities(everything: dict[bytes, Certificate]) -> tuple[list[Certificate], list[Certificate]]:
    known = [each for each in everything.values() if each.extensions.is_ca]
    return ([each for each in known if each.subject == each.issuer], [e for e in known if e.subject != e.issuer])


def _above(everything: dict[bytes, Certificate], leaf: Certificate, pool: IntermediatePool) -> list[Certificate]:
    return [everything[der] for der in pool.complete(leaf.der)]


@pytest.fixture(scope="module")
def trusted(corpus: Path) -> Trusted:
    """All authorities of the collection in one bundle, as an auditor would import them."""
    files = {str(path.relative_to(corpus)): path.read_bytes() for path in _files(corpus) if "ekcerts" not in path.parts}
    bundle = RootBundle("collection", 1, "everything", collect(files, EkClass.HARDWARE, "test").roots)
    return bundle.anchors(), bundle.pool()


def _judge(trusted: Trusted, data: bytes, kind: EkKind, now: int) -> VerifiedEk:
    anchors, pool = trusted
    return verify_ek(data, pool.complete(data), anchors, kind, now)


def _verdict(trusted: Trusted, data: bytes, kind: EkKind, now: int) -> tuple[str, tuple[str, ...]]:
    try:
        ek = _judge(trusted, data, kind, now)
    except Rejected as refused:
        (finding,) = refused.findings
        return f"{finding.code}: {finding.actual}", ()
    return OK, tuple(each.code for each in ek.deviations)


@pytest.mark.parametrize("name", EK_CERTIFICATES)
def test_an_ek_certificate_is_judged_as_its_source_says(corpus: Path, trusted: Trusted, name: str) -> None:
    kind, now, expected, deviations = EK_CERTIFICATES[name]
    verdict, found = _verdict(trusted, _ders(corpus / name)[0], kind, now)
    assert (expected in verdict, found) == (True, deviations), verdict


def test_a_flipped_signature_is_refused(corpus: Path, trusted: Trusted) -> None:
    """The source of this certificate states what happens when a byte of its signature is changed."""
    (der,) = _ders(corpus / "immune-gmbh+guard-oss/ekcerts/philippEK_0.pem")
    for at in range(len(der) - 256, len(der), 17):
        altered = der[:at] + bytes((der[at] ^ 1,)) + der[at + 1 :]
        verdict, _ = _verdict(trusted, altered, EkKind.RSA2048, NOW)
        assert "its signature is not by that issuer" in verdict


@pytest.mark.parametrize("name", [name for name, (_, _, verdict, _) in EK_CERTIFICATES.items() if verdict == OK])
def test_no_signed_byte_of_a_real_certificate_can_change(corpus: Path, trusted: Trusted, name: str) -> None:
    stored = read_stored(_ders(corpus / name)[0])
    kind = EK_CERTIFICATES[name][0]
    for at in range(4, 4 + len(stored.certificate.signed), 41):
        altered = stored.der[:at] + bytes((stored.der[at] ^ 0x10,)) + stored.der[at + 1 :]
        with pytest.raises((MalformedError, Rejected)):
            _judge(trusted, altered, kind, NOW)


@pytest.mark.parametrize("name", EK_CERTIFICATES)
def test_inspection_names_what_the_check_names(corpus: Path, name: str) -> None:
    kind, _, verdict, deviations = EK_CERTIFICATES[name]
    document = describe_ek_certificate((corpus / name).read_bytes())
    codes = {finding["code"] for finding in document["findings"]}
    assert codes >= set(deviations)
    assert (verdict in codes) == verdict.startswith("ek-")
    assert verdict != OK or kind.name in document["host_ids"]


def test_what_has_to_be_pinned_can_be_pinned(corpus: Path) -> None:
    stored = read_stored((corpus / "nsacyber+HIRS/ekcerts/nuc-1_ek_cert_untouched.cer").read_bytes())
    public = rebuild_public(stored.certificate, EkKind.RSA2048)
    assert verify_pinned_ek(public, {host_id(public): EkClass.HARDWARE}).public == public


# --- roots ----------------------------------------------------------------------------------------------------------


def test_every_mis_encoded_root_is_an_anchor(corpus: Path) -> None:
    files = {path.name: path.read_bytes() for path in (corpus / "immune-gmbh+guard-oss/malformed-ca").iterdir()}
    found = collect(files, EkClass.HARDWARE, "")
    assert (len(found.roots), found.skipped) == (13, ())
    assert all(root.is_anchor for root in found.roots)


def _collected(corpus: Path, name: str) -> Collected:
    return collect({name: (corpus / name).read_bytes()}, EkClass.HARDWARE, "")


def test_a_store_of_makers_becomes_a_bundle(corpus: Path) -> None:
    found = _collected(corpus, STORE)
    assert Counter(each.reason for each in found.skipped) == {
        "it is not for certificates of endorsement keys": 1418,  # they certify attestation keys
        "it may not sign certificates": 1,  # a test that was left in
    }
    assert (len(found.roots), sum(root.is_anchor for root in found.roots)) == (252, 30)
    bundle = RootBundle("store", 1, "as collected", found.roots)
    assert RootBundle.parse(bundle.encode()) == bundle


def test_a_list_of_sources_and_hashes_agrees_with_the_certificates(corpus: Path) -> None:
    """A published list of addresses and fingerprints gives every root its provenance, and its hash is right."""
    text = (corpus / ROOTS_LIST).read_text()
    listed = re.findall(r'url: "([^"]+)".*?(sha1|sha256): "([0-9A-F:]+)"', text, re.DOTALL)
    sources = {bytes.fromhex(value.replace(":", "")): url for url, _, value in listed}
    roots = []
    for root in _collected(corpus, ROOTS).roots:
        hashes = (hashlib.sha256(root.der).digest(), hashlib.sha1(root.der).digest())
        roots.append(replace(root, source=next(sources[each] for each in hashes if each in sources)))
    bundle = RootBundle("roots", 1, "addresses and hashes as published", tuple(roots))
    assert (len(roots), RootBundle.parse(bundle.encode())) == (26, bundle)


def test_published_intermediates_lead_to_published_roots(corpus: Path) -> None:
    anchors = [Certificate.parse(root.der) for root in _collected(corpus, ROOTS).roots]
    pool = [Certificate.parse(root.der) for root in _collected(corpus, INTERMEDIATES).roots]
    by_name = IntermediatePool.of(each.der for each in pool)
    by_der = {each.der: each for each in pool}
    chains = [find_chain(each, _above(by_der, each, by_name), anchors, NOW) for each in pool]
    assert (len(chains), {len(chain) for chain in chains}) == (143, {2, 3})


# --- against OpenSSL ------------------------------------------------------------------------------------------------


def _pem(certificates: list[Certificate]) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(each.der) + b"-----END CERTIFICATE-----\n"
        for each in certificates
    )


def _openssl(folder: Path, targets: list[Certificate], anchors: list[Certificate], pool: list[Certificate]) -> set[int]:
    """The numbers of the ``targets`` that OpenSSL accepts."""
    (folder / "anchors.pem").write_bytes(_pem(anchors))
    (folder / "pool.pem").write_bytes(_pem(pool))
    for at, target in enumerate(targets):
        (folder / f"{at}.pem").write_bytes(_pem([target]))
    command = ["openssl", "verify", "-partial_chain", "-attime", str(NOW), "-CAfile", "anchors.pem"]
    names = [f"{at}.pem" for at in range(len(targets))]
    done = subprocess.run(
        [*command, "-untrusted", "pool.pem", *names], cwd=folder, capture_output=True, text=True, check=False
    )
    return {int(number) for number in re.findall(r"^(\d+)\.pem: OK$", done.stdout, re.MULTILINE)}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_never_more_kindly_than_openssl(everything: dict[bytes, Certificate], tmp_path: Path) -> None:
    anchors, pool = _authorities(everything)
    targets = list(everything.values())
    theirs = _openssl(tmp_path, targets, anchors, pool)
    by_name = IntermediatePool.of(each.der for each in pool)
    score: Counter[str] = Counter()
    stricter: Counter[str] = Counter()
    for at, target in enumerate(targets):
        try:
            find_chain(target, _above(everything, target, by_name), anchors, NOW)
            ours = OK
        except Rejected as refused:
            ours = refused.findings[0].actual
        assert ours != OK or at in theirs, f"accepted, and OpenSSL does not: {ours}"
        if at in theirs and ours != OK:
            stricter[next((reason for reason in STRICTER if reason in ours), ours)] += 1
        score["both accept" if ours == OK else "only we refuse" if at in theirs else "both refuse"] += 1
    assert dict(stricter) == STRICTER
    print(f"\ncertificate chains against OpenSSL: {len(targets)} judged, {dict(score)}")


# --- the score ------------------------------------------------------------------------------------------------------


READ, NAMED, REFUSED = "read", "read, with deviations that are named", "refused as its source says"


def test_every_certificate_parses_or_is_refused_for_the_stated_reason(corpus: Path) -> None:
    score: dict[str, Counter[str]] = {}
    for path in _files(corpus):
        kind = f"{path.relative_to(corpus).parts[0]}/{path.parent.name}"
        for data in _ders(path):
            try:
                stored = read_stored(data)
                deviations = {each.code for each in stored.deviations}
                verdict = NAMED if deviations else READ
            except MalformedError as error:
                is_attribute = path.parent.name == "attrcerts" and "attribute certificate" in error.message
                verdict = REFUSED if is_attribute else error.message
            score.setdefault(kind, Counter())[verdict] += 1
    print("\ncertificates read, by kind:")
    for kind, counts in score.items():
        print(f"  {kind}: " + ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items())))
    assert score["google+go-attestation/attrcerts"] == {REFUSED: 2}
    assert score["immune-gmbh+guard-oss/malformed-ca"] == {NAMED: 13}
    assert {verdict for counts in score.values() for verdict in counts} == {READ, NAMED, REFUSED}
    assert sum(sum(counts.values()) for counts in score.values()) > 1800
