"""GRUB: the small part of its language that is understood, and refusals for the rest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from watchword.errors import UsageError
from watchword.reference.boot.events import Measure
from watchword.reference.boot.grub import Grub
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

FILES = {"cfg": b"", "/vmlinuz": b"kernel", "/initrd": b"initrd"}


def commands_of(script: str, files: dict[str, bytes] | None = None, built_in: list[str] | None = None) -> list[str]:
    grub = Grub(Measure([Alg.SHA256]), {**(files or FILES), "cfg": script.encode()}, built_in or [], verified=False)
    return [event.note for event in grub.run(["source cfg"]) if event.pcr == 8][1:]


def entry(body: str = "linux /vmlinuz quiet\n initrd /initrd") -> str:
    return f"menuentry 'A' {{\n {body}\n}}\n"


def test_a_configuration() -> None:
    assert commands_of("set timeout=0 # c\n" + entry()) == [
        "grub_cmd: set timeout=0",
        "grub_cmd: menuentry A {",
        "grub_cmd: setparams A",
        "grub_cmd: linux /vmlinuz quiet",
        "kernel_cmdline: /vmlinuz quiet",
        "grub_cmd: initrd /initrd",
    ]


def test_quotes_and_variables() -> None:
    script = "set a='x  y'; set b=\"$a z\"\nset c=p\n" + entry(
        "linux /vmlinuz \"$b\" r$c${c}s '$c' \\; # c\ninitrd /initrd"
    )
    lines = commands_of(script)
    assert "grub_cmd: linux /vmlinuz x  y z rpps $c ;" in lines
    assert 'kernel_cmdline: /vmlinuz "x  y z" rpps $c ;' in lines


def test_a_variable_outside_of_quotes_is_several_words() -> None:
    lines = commands_of("set a='x y'\n" + entry('linux /vmlinuz 1${a}2 "$a"\ninitrd /initrd'))
    assert 'kernel_cmdline: /vmlinuz 1x y2 "x y"' in lines


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("if true; then\nfi\n" + entry(), "line 1: if is not understood"),
        ("\nfor x in a; do\n" + entry(), "line 2: for is not understood"),
        ("function f {\n}\n" + entry(), "function"),
        ("submenu 'x' {\n" + entry() + "}\n", "submenu"),
        ("set a=$(x)\n" + entry(), "name of a variable"),
        ("echo a | b\n" + entry(), r"'\|'"),
        ("echo *\n" + entry(), r"'\*'"),
        ("echo $root\n" + entry(), r"\$root is not set"),
        ("set a=''\necho $a\n" + entry(), "is empty"),
        ("$cmd x\n" + entry(), "not written out"),
        ("echo 'x\n" + entry(), "quote without its end"),
        ('echo "a\\"b"\n' + entry(), "quote"),
        ("echo a \\\n b\n" + entry(), "goes on in the next"),
        ("echo {\n" + entry(), "block"),
        ("}\n" + entry(), "where a command should begin"),
        ("menuentry 'A'\n", "without a block"),
        ("menuentry 'A' {\n linux /vmlinuz\n", "no end"),
        ("menuentry 'A' {\n menuentry 'B' {\n}\n}\n", "block inside a block"),
        ("menuentry {\n linux /vmlinuz\n}\n", "without a title"),
        ("set default=1\n" + entry(), "default is '1'"),
        ("set default=saved\n" + entry(), "default is 'saved'"),
        ("search --file /x\n" + entry(), "search reads is not known"),
        ("load_env\n" + entry(), "load_env reads is not known"),
        ("x=1\n" + entry(), "x=1 reads is not known"),
        ("set a\n" + entry(), "not an assignment"),
        ("source other\n" + entry(), "another configuration file"),
        ("insmod ext2\n" + entry(), "insmod ext2"),
        (entry("linux /other"), "reads /other, which is not among"),
        (entry("linux"), "without a file"),
        (entry("echo x"), "load no kernel"),
        (entry("linux /vmlinuz"), "reads no file /initrd"),
        ("\xe9\n" + entry(), "ASCII"),
    ],
)
def test_refused(script: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refusal:
        commands_of(script)
    assert refusal.value.code == "grub-script"


def test_modules_that_are_built_in() -> None:
    assert "grub_cmd: insmod ext2" in commands_of("insmod ext2\n" + entry(), built_in=["ext2"])


def test_a_list_that_is_all_that_runs() -> None:
    files = {"/vmlinuz": b"kernel", "/initrd": b"initrd"}
    events = Grub(Measure([Alg.SHA256]), files, verified=False).run(["linux /vmlinuz a b", "initrd /initrd"])
    assert [event.pcr for event in events] == [8, 9, 8, 8, 9]
    assert events[1].digests[Alg.SHA256] == hashlib.sha256(b"kernel").digest()
    assert events[2].digests[Alg.SHA256] == hashlib.sha256(b"/vmlinuz a b").digest()


@pytest.mark.parametrize(
    "name",
    [
        "google+go-attestation/eventlogs/ubuntu_2104_shielded_vm_no_secure_boot_eventlog.bin",
        "google+go-attestation/eventlogs/coreos_36_shielded_vm_no_secure_boot_eventlog.bin",
        "keylime+keylime/eventlogs/keylime_mb_log_cs9.bin",
    ],
)
def test_real_logs_have_the_events_in_this_order(corpus: Path, name: str) -> None:
    """A command before what it does; the kernel's command line is that of the command, and is the data's digest."""
    log = EventLog.parse((corpus / name).read_bytes())
    texts = [(event.pcr, event.data.rstrip(b"\0"), event) for event in log.events if event.pcr in (8, 9)]
    lines = [(data, event) for pcr, data, event in texts if pcr == 8]
    loads = [i for i, (data, _) in enumerate(lines) if data.startswith((b"grub_cmd: linux", b"kernel_cmdline: "))]
    assert loads, "this log is of a machine with GRUB"
    for i in loads:
        data, event = lines[i]
        label, _, text = data.partition(b": ")
        digest = event.digest(Alg.SHA256)
        if digest is not None:
            assert digest == hashlib.sha256(text).digest()
        if label == b"kernel_cmdline":
            before = [d for d, _ in lines[:i] if d.startswith(b"grub_cmd: linux")]
            assert before
            assert text.split()[0] in before[-1]
