"""The kernel's command line as a fact (C6): read from tied data only, and split as the kernel does."""

from __future__ import annotations

import pytest

from watchword.verify.boot_event import BootEvent
from watchword.verify.command_line import CommandLine, command_line_forms, command_line_words, measured_text
from watchword.wire.tcg_log import EventType


def grub(text: str, label: str = "kernel_cmdline: ", *, tied: bool = True) -> BootEvent:
    data = f"{label}{text}".encode()
    return BootEvent(1, 8, EventType.IPL, b"", data, text.encode() if tied else None)


def systemd(text: str, *, tied: bool = True) -> BootEvent:
    data = f"{text}\0".encode("utf-16-le")
    return BootEvent(2, 12, EventType.IPL, b"", data, data if tied else None)


def test_grub() -> None:
    found = measured_text([grub("set x=1", "grub_cmd: "), grub("/vmlinuz root=/dev/vda ro quiet")])
    assert (found.texts, found.unclear) == (("root=/dev/vda ro quiet",), frozenset())
    assert measured_text([grub("/vmlinuz")]).texts == ("",)


def test_systemd() -> None:
    assert measured_text([systemd("root=LABEL=x lockdown=integrity")]).texts == ("root=LABEL=x lockdown=integrity",)


def test_a_label_is_not_measured() -> None:
    """The host may call a command line a command, or the other way round: both count."""
    hidden = grub("/vmlinuz mitigations=off", "grub_cmd: ")
    assert measured_text([hidden, grub("/vmlinuz ro")]).texts == ("mitigations=off", "ro")
    assert measured_text([grub("(hd0,gpt1)/vmlinuz ro", "module_cmdline: ")]).texts == ("ro",)


@pytest.mark.parametrize("event", [grub("/vmlinuz ro", tied=False), systemd("ro", tied=False)])
def test_what_is_not_tied_is_unclear(event: BootEvent) -> None:
    found = measured_text([event])
    assert (found.texts, found.unclear) == ((), frozenset({event.pcr}))


def test_what_is_not_text_is_unclear() -> None:
    for data in (b"\xff\xfe", b"ab\0c"):
        assert measured_text([BootEvent(1, 12, EventType.IPL, b"", data, data)]).unclear == {12}, data


def test_other_pcrs_say_nothing() -> None:
    assert measured_text([BootEvent(1, 9, EventType.IPL, b"", b"kernel_cmdline: /x y", b"/x y")]).texts == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  a  b=c ", ("a", "b=c")),
        ('a="b c" d', ("a=b c", "d")),
        ('"a=b c" d', ("a=b c", "d")),
        ('"mitigations=off"', ("mitigations=off",)),
        ('mitigations="off"', ("mitigations=off",)),
        ('"quiet"', ("quiet",)),
        ('a"b c"=d', ('a"b c"=d',)),
        ("x=", ("x=",)),
        ("a\tb", None),
        ("caf\u00e9", None),
        ("a" * 2047, ("a" * 2047,)),
        ("a" * 2048, None),
    ],
)
def test_words(text: str, words: tuple[str, ...] | None) -> None:
    assert command_line_words(text) == words


def test_what_follows_the_dashes_is_for_init() -> None:
    line = CommandLine.of("ro lockdown=integrity -- lockdown=none -- x")
    assert line is not None
    assert line.kernel == ("ro", "lockdown=integrity")
    assert line.init == ("lockdown=none", "--", "x")
    assert line.values("lockdown") == ("integrity",)
    assert CommandLine.of("a\nb") is None


def test_hyphen_and_underscore_are_one_in_names() -> None:
    line = CommandLine.of("a-b=1 a_b=2 a_b")
    assert line is not None
    assert line.values("a_b") == line.values("a-b") == ("1", "2")


def test_forms() -> None:
    assert command_line_forms("a") == (b"a\0\0\0", b"a\0", b"a\0", b"a")
