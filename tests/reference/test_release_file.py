"""Release files are read strictly, and every refusal names the place."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.reference import machines

from watchword.crypto import dsse
from watchword.errors import MalformedError, WatchwordError
from watchword.policy.stack import PAYLOAD_TYPE
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


_EVENT = {"pcr": 4, "digests": {"sha256": "0" * 64}}
STACK = json.dumps(
    {
        "format": "watchword-stack/1",
        "name": "compute",
        "version": "0.9",
        "serial": 6,
        "origin": "computed",
        "pcrs": [4],
        "components": [{"name": "boot", "variants": [{"name": "x", "events": [_EVENT]}]}],
    }
).encode()


def superseding(folder: Path, stack: bytes, fields: str = "") -> dict[str, Any]:
    """The document of a release that supersedes ``stack``, of an image that is there."""
    (folder / "compute.efi").write_bytes(machines.good().uki)
    (folder / "old.json").write_bytes(stack)
    text = GOOD.replace("serial = 7", f'serial = 7\nsupersedes = ["old.json"]\n{fields}')
    document: dict[str, Any] = json.loads(compute_stack(parse_release(text.encode()), folder).document)
    return document


@pytest.mark.parametrize("signed", [False, True])
def test_what_a_release_supersedes_is_named_by_its_file(tmp_path: Path, signed: bool) -> None:
    stack = dsse.sign(STACK, PAYLOAD_TYPE, [Ed25519PrivateKey.generate()]) if signed else STACK
    bad = '[[known-bad]]\ndigest = "sha256:%s"\nwhat = "file"\nreason = "has a hole"\n' % ("ab" * 32)
    document = superseding(tmp_path, stack, f"issued = 5\n{bad}")
    assert document["supersedes"] == ["sha256:" + hashlib.sha256(STACK).hexdigest()]
    assert document["known_bad"] == [{"digest": "sha256:" + "ab" * 32, "what": "file", "reason": "has a hole"}]
    assert (document["issued"], document["pool"], document["channel"]) == (5, "default", "stable")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"serial": 6', b'"serial": 7', "no earlier release"),
        (b'"name": "compute"', b'"name": "storage"', "no earlier release"),
        (b'"pcrs"', b'"pool": "special", "pcrs"', "no earlier release"),
        (b'"pcrs"', b'"channel": "testing", "pcrs"', "no earlier release"),
        (b'"format"', b'"fromat"', "old.json: stack: "),
    ],
)
def test_what_cannot_be_superseded(tmp_path: Path, old: bytes, new: bytes, why: str) -> None:
    assert old in STACK
    with pytest.raises(WatchwordError, match=why):
        superseding(tmp_path, STACK.replace(old, new))


def test_a_release_superseded_twice(tmp_path: Path) -> None:
    again = f'supersedes = ["old.json", "sha256:{hashlib.sha256(STACK).hexdigest()}"]'
    (tmp_path / "compute.efi").write_bytes(machines.good().uki)
    (tmp_path / "old.json").write_bytes(STACK)
    with pytest.raises(MalformedError, match=r"supersedes\[1\]: is the same release"):
        compute_stack(parse_release(GOOD.replace("serial = 7", f"serial = 7\n{again}").encode()), tmp_path)


def test_pool_and_channel_are_the_stacks(tmp_path: Path) -> None:
    fields = 'pool = "special"\nchannel = "testing"'
    document = superseding(
        tmp_path, STACK.replace(b'"pcrs"', b'"pool": "special", "channel": "testing", "pcrs"'), fields
    )
    assert (document["pool"], document["channel"]) == ("special", "testing")
    assert "issued" not in document  # the same files make the same stack


def test_the_runtime_table_is_not_passed_over(tmp_path: Path) -> None:
    release = parse_release((GOOD + "[runtime]\nx = 1\n").encode())
    with pytest.raises(WatchwordError, match="runtime"):
        compute_stack(release, tmp_path)
