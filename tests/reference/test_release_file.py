"""Release files are read strictly, and every refusal names the place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from watchword.errors import MalformedError, WatchwordError
from watchword.reference.compute import compute_stack
from watchword.reference.release_file import Kernel, Uki, boot_name, parse_release

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "release-file.md"
GOOD = """
format = "watchword-release/1"
name = "compute"
version = "1.0"
serial = 7
[secure-boot]
state = "off"
[[boot]]
kind = "uki"
image = "compute.efi"
"""


def test_a_release() -> None:
    release = parse_release(GOOD.encode())
    assert (release.name, release.serial, release.banks) == ("compute", 7, ("sha256",))
    assert isinstance(release.boot[0], Uki)
    assert boot_name(release, 0) == "uki"


def test_the_examples_of_the_page() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) >= 1
    first = parse_release(examples[0].encode())
    kinds = set()
    for example in examples[1:]:
        whole = GOOD.partition("[secure-boot]")[0] + example
        if "[secure-boot]" not in example:
            whole = GOOD.partition("[[boot]]")[0] + example
        kinds |= {type(boot).__name__ for boot in parse_release(whole.encode()).boot}
    assert {type(boot).__name__ for boot in first.boot} | kinds == {"Uki", "SystemdBoot", "ShimGrub", "Grub", "Kernel"}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("serial = 7", "serial = 7\nserial = 8", r"line 6"),
        ("serial = 7", "serial = ", r"line 5"),
        ("serial = 7", 'serial = "7"', r"serial: Expected `int`"),
        ("serial = 7", "serial = 0", r"serial: "),
        ("serial = 7", "serial = 7\nbank = 1", r"unknown field `bank`"),
        ("serial = 7", 'serial = 7\nbanks = ["sha1"]', r"banks"),
        ("serial = 7", "serial = 7\nbanks = []", r"banks"),
        ("serial = 7", 'serial = 7\nbanks = ["sha256", "sha256"]', r"banks: a bank is there twice"),
        ("/1", "/2", r"format"),
        ('"compute"', '"no name"', r"name"),
        ("image =", "imagee =", r"boot\[0\]: Object contains unknown field `imagee`|missing required field `image`"),
        ('kind = "uki"', 'kind = "lilo"', r"boot\[0\]\.kind: Invalid value 'lilo'"),
        ('kind = "uki"', 'kind = "systemd-boot"\nloader = "x"\nentry = "e"', r"give image, or esp and entry"),
        ('kind = "uki"', "", r"missing required field `kind`"),
        ("[[boot]]", '[[boot]]\nkind = "uki"\nimage = "x"\n[[boot]]', r"boot\[1\]\.name: uki is already used"),
        ('"off"', '"maybe"', r"secure-boot\.state"),
        ('"off"', '"on"', r"the state on needs variables"),
        ('"off"', '"on"\nPK = ["a"]\ndb = ["a"]', r"the state on needs variables"),
        ('"off"', '"not-enrolled"\nvariables = "x"', r"leave them out"),
        ('"off"', '"off"\nvariables = "x"\ndb = ["a"]', r"not both"),
        ('"off"', '"off"\nowner = "me"', r"owner: not a GUID"),
        (
            '"off"',
            '"on"\nvariables = "x"\n[[boot]]\nkind = "grub"\ngrub = "g"\ncommands = ["x"]\n[boot.files]\n',
            "shim",
        ),
    ],
)
def test_refused(old: str, new: str, why: str) -> None:
    assert old in GOOD
    with pytest.raises(MalformedError, match=why):
        parse_release(GOOD.replace(old, new, 1).encode())


def test_a_changed_kernel_under_secure_boot() -> None:
    boot = '[[boot]]\nkind = "kernel"\nkernel = "k"\ncommand-line = "x"\nmemory = 512\n'
    text = GOOD.partition("[[boot]]")[0] + boot
    assert isinstance(parse_release(text.encode()).boot[0], Kernel)
    with pytest.raises(MalformedError, match="refuses a kernel that QEMU has changed"):
        parse_release(text.replace('"off"', '"on"\nvariables = "x"').encode())


def test_too_long_and_not_text() -> None:
    with pytest.raises(MalformedError, match="are allowed"):
        parse_release(b" " * (1 << 21))
    with pytest.raises(MalformedError, match="UTF-8"):
        parse_release(b"\xff")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "compute.efi: no such file"),
        (b"ELF", "compute.efi: not a PE file: "),
    ],
)
def test_an_artifact_that_is_not_what_it_says(content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "compute.efi").write_bytes(content)
    with pytest.raises(WatchwordError, match=why):
        compute_stack(parse_release(GOOD.encode()), tmp_path)


def test_the_runtime_table_is_not_passed_over(tmp_path: Path) -> None:
    release = parse_release((GOOD + "[runtime]\nx = 1\n").encode())
    with pytest.raises(WatchwordError, match="runtime"):
        compute_stack(release, tmp_path)
