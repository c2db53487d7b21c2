"""Notes, keys and checkpoints as text: each example breaks one rule, and nothing else about it is wrong."""

from __future__ import annotations

import base64

import pytest

from watchword.errors import MalformedError
from watchword.wire.merkle import MAX_SIZE
from watchword.wire.note import MAX_NOTE, Checkpoint, Note, NoteKey, NoteSignature

LINE = "\N{EM DASH} a AQIDBAUG"
ROOT = base64.b64encode(bytes(32)).decode()


def test_the_good_ones() -> None:
    assert NoteSignature.parse(LINE) == NoteSignature("a", b"\1\2\3\4", b"\5\6")
    text = "x\n" * ((MAX_NOTE - 1 - len(f"{LINE}\n".encode())) // 2)
    assert Note.parse(f"{text}\n{LINE}\n".encode()).text == text
    assert Note.parse((f"t\n\n{LINE}\n" + f"{LINE}\n" * 99).encode()).signatures[99] == NoteSignature.parse(LINE)
    assert NoteKey.parse("a+0000000f+AQI=") == NoteKey("a", bytes((0, 0, 0, 15)), 1, b"\2")
    assert Checkpoint.parse(f"{'o' * 300}\n{MAX_SIZE}\n{ROOT}\n").size == MAX_SIZE


@pytest.mark.parametrize(
    "line",
    ["a AQIDBAUG", "\N{EM DASH} a+b AQIDBAUG", f"\N{EM DASH} {'a' * 301} AQIDBAUG", "\N{EM DASH} a AQIDBA==",
     "\N{EM DASH} a AQIDBAV=", "\N{EM DASH} a AQIDBAUH\t", "\N{EM DASH} a AQIDBAUG=", "\N{EM DASH} a AQIDBAW="],
)  # fmt: skip
def test_no_signature_line(line: str) -> None:
    with pytest.raises(MalformedError):
        NoteSignature.parse(line)


@pytest.mark.parametrize(
    "text",
    [
        "x\n" * (MAX_NOTE // 2) + f"\n{LINE}\n",  # too long
        f"{LINE}\n",  # no text
        f"t\n\n{LINE}X",  # the last line goes on
        f"t\x01\n\n{LINE}\n",
        f"t\r\n\n{LINE}\n",
        f"t\n\n{LINE}\n" + f"{LINE}\n" * 100,
    ],
    ids=["long", "no-text", "no-end", "control", "return", "signatures"],
)
def test_no_note(text: str) -> None:
    with pytest.raises(MalformedError):
        Note.parse(text.encode())


def test_a_note_is_utf8() -> None:
    with pytest.raises(MalformedError):
        Note.parse(b"t\xff\n\n" + f"{LINE}\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        "a+00000000+" + base64.b64encode(bytes(600)).decode(),
        "a+00000000",
        "a b+00000000+AQI=",
        "+00000000+AQI=",
        "a+000000+AQI=",
        "a+0000000F+AQI=",
        "a+00000000+AQ==",
        "a+00000000+AQJ=",
    ],
)
def test_no_key(text: str) -> None:
    with pytest.raises(MalformedError):
        NoteKey.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"o\n{MAX_SIZE + 1}\n{ROOT}\n",
        f"{'o' * 301}\n1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        "o\n1\n",
        f"\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n{ROOT}\nx",
        f"o\n1\n{ROOT[:-4]}AAAA\n",
    ],
)
def test_no_checkpoint(text: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(text)
