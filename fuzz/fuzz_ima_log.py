"""Coverage-guided fuzzing of the runtime log parsers: ``python fuzz/fuzz_ima_log.py [corpus folder]``.

Any bytes must give a log that encodes to the same bytes and whose entries can be read, or MalformedError; so must any
text. Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.cli.inspect_logs import describe_ima_log
    from watchword.errors import MalformedError
    from watchword.wire.ima_ascii import looks_ascii
    from watchword.wire.ima_log import ImaLog


def one_input(data: bytes) -> None:
    """A whole log; one that begins like text is read as the readable form."""
    try:
        describe_ima_log(data, entries=True)
        if looks_ascii(data):
            return
        log = ImaLog.parse(data)
    except MalformedError:
        return
    assert log.encode() == data


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
