"""Coverage-guided fuzzing of certificates, CRLs and root bundles: ``python fuzz/fuzz_certificate.py [corpus folder]``.

Any bytes must give a value or MalformedError; a certificate that is read must be all of the bytes, and be described.
Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.cli.inspect_tpm import describe_ek_certificate
    from watchword.errors import MalformedError, Rejected
    from watchword.verify.certificate import Certificate, parse_nv_chain, pem_certificates, read_stored
    from watchword.verify.chain import find_chain
    from watchword.verify.crl import RevocationList, check_revocation
    from watchword.verify.ek import EkClass, check_certificate
    from watchword.verify.loaded_key import read_loaded_key
    from watchword.verify.roots import RootBundle, collect

NOW = 1_795_392_000


def _certificate(data: bytes) -> None:
    certificate = Certificate.parse(data)
    assert certificate.der == data
    assert certificate.signed in data
    describe_ek_certificate(data)


def _judged(data: bytes) -> None:
    """A certificate as its own issuer, anchor and intermediate, with the rest of the bytes as its issuer's list."""
    stored = read_stored(data)
    try:
        check_certificate(stored.certificate)
        chain = find_chain(stored.certificate, [stored.certificate], [stored.certificate], NOW)
        check_revocation(chain, [RevocationList.parse(data)], NOW)
    except Rejected:
        pass


def _bundle(data: bytes) -> None:
    bundle = RootBundle.parse(data)
    assert RootBundle.parse(bundle.encode()) == bundle
    bundle.pool()


def _nv_chain(data: bytes) -> None:
    assert data.startswith(b"".join(parse_nv_chain(data)))


TARGETS = (
    _certificate,
    _judged,
    _bundle,
    _nv_chain,
    RevocationList.parse,
    lambda data: list(pem_certificates(data)),
    lambda data: collect({"file": data}, EkClass.HARDWARE, "fuzz"),
    lambda data: read_loaded_key(b".ima", data),
)


def one_input(data: bytes) -> None:
    """The first byte chooses the target, the rest is what it gets."""
    choice, data = data[:1], data[1:]
    try:
        TARGETS[choice[0] % len(TARGETS) if choice else 0](data)
    except MalformedError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
