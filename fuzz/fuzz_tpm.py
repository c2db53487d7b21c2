"""Coverage-guided fuzzing of the TPM structure parsers: ``python fuzz/fuzz_tpm.py [corpus folder]``.

Any bytes must give a value that encodes to the same bytes, or MalformedError. Needs the package ``atheris``, which the
test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.cli.inspect_tpm import describe_ek_certificate, describe_quote
    from watchword.errors import MalformedError
    from watchword.wire.reader import parse_whole
    from watchword.wire.tpm.attest import Attest
    from watchword.wire.tpm.blobs import EncryptedSecret, IdObject, PrivateBlob, Sensitive
    from watchword.wire.tpm.pcr import encode_selections, parse_selections
    from watchword.wire.tpm.public import Public
    from watchword.wire.tpm.signature import Signature

PARSERS = (Attest, Public, Signature, IdObject, PrivateBlob, EncryptedSecret, Sensitive)


def one_input(data: bytes) -> None:
    """The first byte chooses the parser, the rest is what it gets."""
    choice, data = data[:1], data[1:]
    index = choice[0] % (len(PARSERS) + 3) if choice else 0
    try:
        if index < len(PARSERS):
            assert PARSERS[index].parse(data).encode() == data
        elif index == len(PARSERS):
            assert encode_selections(parse_whole(data, "selections", parse_selections)) == data
        elif index == len(PARSERS) + 1:
            describe_quote(data)
        else:
            describe_ek_certificate(data)
    except MalformedError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
