"""Coverage-guided fuzzing of what travels: ``python fuzz/fuzz_messages.py [corpus folder]``.

Any bytes must give a message, token or document that encodes to the same bytes (documents: that parses), or
MalformedError or Rejected. Needs the package ``atheris``, which the test suite does not.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from watchword.crypto import dsse
    from watchword.errors import MalformedError, Rejected
    from watchword.launch.receipt import Decision
    from watchword.policy.profile import Profile
    from watchword.policy.stack import CompiledStack
    from watchword.wire.evidence import Evidence
    from watchword.wire.messages import encode_reply, encode_request, parse_reply, parse_request
    from watchword.wire.token import Token, TokenBody


def one_input(data: bytes) -> None:
    """The first byte chooses the parser, the rest is what it gets."""
    choice, data = data[:1], data[1:]
    index = choice[0] % 9 if choice else 0
    try:
        if index == 0:
            assert encode_request(parse_request(data)) == data
        elif index == 1:
            assert encode_reply(parse_reply(data)) == data
        elif index == 2:
            assert Evidence.parse(data).encode() == data
        elif index == 3:
            assert TokenBody.parse(data).encode() == data
        elif index == 4:
            text = data.decode("latin-1")
            assert Token.parse(text).text() == text
        elif index == 5:
            dsse.open_unverified(data)
        elif index == 6:
            Profile.parse(data)
        elif index == 7:
            CompiledStack.parse(data)
        else:
            Decision.parse(data)
    except (MalformedError, Rejected):
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
