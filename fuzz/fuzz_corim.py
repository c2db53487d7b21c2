"""Coverage-guided fuzzing of CoRIM: ``python fuzz/fuzz_corim.py [corpus folder]``.

Any bytes must give a document or MalformedError, and what is taken for one of ours must come out as the same bytes.
Signatures are not verified. Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports():
    from watchword.crypto.cbor import dump, load
    from watchword.errors import MalformedError, Rejected
    from watchword.reference.interop.corim.document import Corim, check_signer, is_signed, parse_signed
    from watchword.reference.interop.corim.foreign import read_corim, read_registers
    from watchword.reference.interop.corim.own import PROFILE, read_own, write_corim


def one_input(data: bytes) -> None:
    try:
        if is_signed(data):
            message = parse_signed(data)
            with suppress(Rejected):
                check_signer(message, 1_700_000_000)
            data = message.payload
        value = load(data, "item", len(data))
        assert load(dump(value), "item", 2 * len(data) + 16) == value
        corim = Corim.parse(data)
        if corim.profile == PROFILE:
            assert write_corim(read_own(corim, data)) == data
        else:
            with suppress(MalformedError):
                read_corim(corim)
            read_registers(corim)
    except MalformedError:
        return


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
