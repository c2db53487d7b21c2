"""Coverage-guided fuzzing of the event log parser and its readings: ``python fuzz/fuzz_tcg_log.py [corpus folder]``.

Any bytes must give a log that encodes to the same bytes, replays and can be examined and described, or MalformedError.
Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.cli.inspect_logs import describe_event_log
    from watchword.errors import MalformedError
    from watchword.wire.tcg_log import EventLog
    from watchword.wire.uefi import GptEvent, ImageLoad, LoadOption, UefiVariable, device_path_text, parse_signatures

STRUCTURES = (UefiVariable.parse, parse_signatures, LoadOption.parse, ImageLoad.parse, GptEvent.parse, device_path_text)


def one_input(data: bytes) -> None:
    """The first byte chooses between a whole log and one structure of event data."""
    choice, data = data[:1], data[1:]
    index = choice[0] if choice else 0
    try:
        if index < 2 * len(STRUCTURES):
            STRUCTURES[index % len(STRUCTURES)](data)
            return
        log = EventLog.parse(data)
    except MalformedError:
        return
    assert log.encode() == data
    describe_event_log(log, events=True)


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
