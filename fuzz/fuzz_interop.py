"""Coverage-guided fuzzing of the readers of other tools' formats: ``python fuzz/fuzz_interop.py [corpus folder]``.

Any bytes must give a draft or expectations, or MalformedError. Needs the package ``atheris``, which the test suite does
not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.errors import MalformedError
    from watchword.reference.interop.expect import read_compute_pcrs, read_expectations
    from watchword.reference.interop.keylime import read_policy
    from watchword.reference.interop.manifest import read_manifest
    from watchword.reference.interop.records import read_cel, read_pcrlock

READERS = (
    read_manifest,
    read_policy,
    read_cel,
    lambda data: read_pcrlock({"100-a.pcrlock": data}),
    read_compute_pcrs,
    read_expectations,
)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader."""
    try:
        READERS[data[0] % len(READERS) if data else 0](data[1:])
    except MalformedError:
        return


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
