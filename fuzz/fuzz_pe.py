"""Coverage-guided fuzzing of the reader of EFI programs: ``python fuzz/fuzz_pe.py [corpus folder]``.

Any bytes must give a program whose digest and sections can be computed, or MalformedError.
Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.errors import MalformedError
    from watchword.wire.pe import PeImage
    from watchword.wire.tpm.algorithms import Alg


def one_input(data: bytes) -> None:
    try:
        image = PeImage.parse(data)
    except MalformedError:
        return
    assert len(image.digest(Alg.SHA256)) == 32
    for section in image.sections:
        if section.memory_size < 1 << 20:  # a section may say that it is large in memory: zeros, and slow
            assert len(image.content(section)) == section.memory_size


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
