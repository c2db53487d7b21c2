"""``watchword authority anchor import|collect`` and ``crl``, as an operator uses them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.verify.certificates import oid, raw_authority, sequence, tlv

from watchword.authority.acts.inputs import read_certificate, read_crl
from watchword.authority.store import Store
from watchword.cli.main import run
from watchword.errors import MalformedError, UsageError
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ek import EkClass
from watchword.verify.roots import Root, RootBundle

from .conftest import Command

MAKERS, OTHERS = EkAuthority.create(), EkAuthority.create("Another")
TODAY = int(time.time())
ENDED = raw_authority("root", validity=sequence(tlv(0x17, b"000101000000Z"), tlv(0x17, b"010101000000Z"))).der()
ROOTS = (
    Root(MAKERS.root, EkClass.HARDWARE, "Maker", "https://maker.example/root.crt"),
    Root(MAKERS.intermediates[0], EkClass.HARDWARE, "Below", "https://maker.example/ca.crt", is_anchor=False),
    Root(ENDED, EkClass.FIRMWARE, "Old", "paper"),
)
BUNDLE = RootBundle("makers", 3, "collected for a test", ROOTS)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


def write(path: Path, content: bytes) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return str(path)


def code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    assert result[1]["error"]["hint"] or result[0] == 3
    return result[0], result[1]["error"]["code"]


# -- anchors one by one --------------------------------------------------------------------------------------------


def odd_root() -> bytes:
    """A root whose name is not in the order of DER: the library refuses it, and a maker has made such."""
    parts = (sequence(oid(f"2.5.4.{number}"), tlv(0x0C, b"root")) for number in (10, 3))
    name = sequence(tlv(0x31, *parts))
    return replace(raw_authority("root"), issuer=name, subject=name).der()


def test_a_mis_encoded_root_can_be_an_anchor(command: Command, data: Path, tmp_path: Path) -> None:
    der = odd_root()
    with pytest.raises(ValueError):
        x509.load_der_x509_certificate(der).subject  # noqa: B018 - it is parsed when asked for
    status, added = command("anchor", "add", write(tmp_path / "odd.pem", pem(der)), "--class", "hardware")
    assert (status, added["fingerprint"]) == (0, sha256(der))
    with Store.open(data / "store.sqlite3") as store:
        assert store.anchors()[0].anchor.certificate_der == der


def test_an_authority_for_other_things_is_no_anchor(command: Command, tmp_path: Path) -> None:
    server = raw_authority("root")
    purpose = sequence(oid("2.5.29.37"), tlv(0x04, sequence(oid("1.3.6.1.5.5.7.3.1"))))
    der = replace(server, extensions=(*server.extensions, purpose)).der()
    result = command("anchor", "add", write(tmp_path / "x", der), "--class", "hardware")
    assert code(result) == (1, "anchor-not-ca")
    assert "not for certificates of endorsement keys" in result[1]["error"]["message"]


def test_files_with_one_certificate_or_list() -> None:
    root = MAKERS.root
    assert read_certificate(root).der == read_certificate(b"# text\n" + pem(root) + b"more").der == root
    assert read_crl(pem(b"list", "X509 CRL")) == read_crl(b"list") == b"list"
    for content in (pem(root) * 2, pem(root, "X509 CRL"), pem(root)[:-30]):
        with pytest.raises(UsageError) as caught:
            read_certificate(content)
        assert caught.value.code == "certificate-file"
    with pytest.raises(UsageError) as caught:
        read_crl(pem(root))
    assert caught.value.code == "crl-file"
    for content in (b"", b"nonsense", root + b"\0", pem(b"")):
        with pytest.raises(MalformedError):
            read_certificate(content)
    with pytest.raises(MalformedError, match="base64"):
        read_certificate(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")


# -- bundles -------------------------------------------------------------------------------------------------------


def test_import(command: Command, tmp_path: Path) -> None:
    content = BUNDLE.encode()
    file = write(tmp_path / "makers.json", content)
    below = write(tmp_path / "below.json", replace(BUNDLE, name="below", roots=ROOTS[1:2]).encode())
    command("anchor", "import", below)
    status, shown = command("anchor", "import", file, "--dry-run")
    assert (status, shown["imported"], shown["sha256"]) == (0, False, sha256(content))
    assert command("anchor", "list")[1] == {"anchors": []}
    assert command("decisions")[1]["head"]["seq"] == 1
    status, imported = command("anchor", "import", file)
    assert (status, imported) == (0, {**shown, "imported": True})
    assert [each["new"] for each in command("anchor", "import", file, "--dry-run")[1]["certificates"]] == [False] * 3
    until = [1, 1, 0]
    assert [{k: v for k, v in each.items() if k != "until"} for each in shown["certificates"]] == [
        {
            "label": root.label,
            "class": str(root.ek_class),
            "role": "anchor" if root.is_anchor else "intermediate",
            "source": root.source,
            "sha256": sha256(root.der),
            "expired": not good,
            "new": root.label != "Below",
        }
        for root, good in zip(ROOTS, until, strict=True)
    ]
    assert shown["certificates"][2]["until"] == int(datetime(2001, 1, 1, tzinfo=UTC).timestamp())
    listed = command("anchor", "list")[1]["anchors"]
    assert {(row["label"], *row["bundles"]) for row in listed} == {("Maker", "makers@3"), ("Old", "makers@3")}


def test_a_new_edition_tells_what_it_dropped(
    command: Command, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("anchor", "import", write(tmp_path / "3", BUNDLE.encode()))
    newer = write(tmp_path / "4", replace(BUNDLE, serial=4, roots=ROOTS[:2]).encode())
    assert command("anchor", "import", newer, "--dry-run")[1]["dropped"] == [sha256(ENDED)]
    assert run(["authority", "anchor", "import", newer, "--data", str(data)]) == 0
    out, err = capsys.readouterr()
    assert f"{sha256(ENDED)}  not in this edition any more" in out
    assert "imported makers, edition 4: 1 anchors, 1 intermediates" in out
    assert "1 anchors are not in this edition any more" in err
    rows = {row["label"]: row["bundles"] for row in command("anchor", "list")[1]["anchors"]}
    assert rows == {"Maker": ["makers@4"], "Old": []}
    for extra in ((), ("--dry-run",)):
        assert code(command("anchor", "import", str(tmp_path / "3"), *extra)) == (1, "roots-rollback")


def test_a_bundle_that_was_bent_is_refused(command: Command, tmp_path: Path) -> None:
    document = json.loads(BUNDLE.encode())
    document["certificates"][0]["sha256"] = sha256(b"")
    for extra in ((), ("--dry-run",)):
        result = command("anchor", "import", write(tmp_path / "x", json.dumps(document).encode()), *extra)
        assert code(result) == (3, "roots-malformed")


def test_collect_and_import(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "collection"
    write(folder / "maker.pem", pem(MAKERS.root) + pem(MAKERS.intermediates[0]))
    write(folder / "deep" / "leaf.der", MAKERS.issue(TpmKeys().ek))
    write(folder / ".git" / "pack", b"x")
    single = write(tmp_path / "other.crt", OTHERS.root)
    output = tmp_path / "lab.json"
    arguments = ["anchor", "collect", str(folder), single, "--class", "virtual", "--source", "https://lab.example"]
    assert run(["authority", *arguments, "-o", str(output), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told == {
        "bundle": str(output),
        "sha256": sha256(output.read_bytes()),
        "anchors": 2,
        "intermediates": 1,
        "skipped": [
            {"source": "https://lab.example deep/leaf.der: (no name)", "reason": "it is no certificate authority"}
        ],
    }
    assert err == f"watchword: left out: {told['skipped'][0]['source']}: it is no certificate authority\n"
    bundle = RootBundle.parse(output.read_bytes())
    assert (bundle.name, bundle.serial, bundle.about) == ("lab", 1, "collected from https://lab.example")
    assert {root.source for root in bundle.roots} == {"https://lab.example maker.pem", "https://lab.example other.crt"}
    assert command("anchor", "import", str(output))[1]["imported"] is True
    assert run(["authority", *arguments, "-o", str(output), "--all-anchors", "--serial", "2", "--name", "n"]) == 0
    assert capsys.readouterr().out.startswith("3 anchors, 0 intermediates, 1 left out; sha256 ")
    bundle = RootBundle.parse(output.read_bytes())
    assert (bundle.name, bundle.serial, len(bundle.anchors())) == ("n", 2, 3)


def test_two_files_of_one_name_are_both_collected(tmp_path: Path) -> None:
    paths = [write(tmp_path / each / "root.crt", der) for each, der in (("a", MAKERS.root), ("b", OTHERS.root))]
    output = tmp_path / "x.json"
    assert (
        run(["authority", "anchor", "collect", *paths, "--class", "virtual", "--source", "s", "-o", str(output)]) == 0
    )
    assert len(RootBundle.parse(output.read_bytes()).roots) == 2


def test_a_collection_without_authorities_makes_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["authority", "anchor", "collect", str(tmp_path), "--class", "virtual", "--source", "s", "--json"]
    arguments += ["-o", str(tmp_path / "x.json")]
    write(tmp_path / "readme", b"nothing")
    assert run(arguments) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "roots-none"
    write(tmp_path / "another", b"nothing")
    monkeypatch.setattr("watchword.cli.authority_bundles._MAX_FILES", 1)
    assert run(arguments) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "roots-files"
    monkeypatch.undo()
    monkeypatch.setattr("watchword.cli.authority_bundles._MAX_BYTES", 13)  # of 14
    assert run(arguments) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "file-too-large"
    assert not (tmp_path / "x.json").exists()


def test_a_bundle_that_could_not_be_imported_is_not_written(tmp_path: Path) -> None:
    arguments = ["authority", "anchor", "collect", write(tmp_path / "root", MAKERS.root), "--class", "virtual"]
    arguments += ["--source", "s", "-o", str(tmp_path / "x.json")]
    assert run([*arguments, "--about", "two\nlines"]) == 3
    assert not (tmp_path / "x.json").exists()


# -- revocation lists ----------------------------------------------------------------------------------------------


def test_the_life_of_a_list(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path) -> None:
    der = MAKERS.revocation_list(MAKERS.issue(TpmKeys().ek), now=TODAY - 60, lifetime=3600)
    file = write(tmp_path / "maker.crl", pem(der, "X509 CRL"))
    assert code(command("crl", "add", file)) == (1, "crl-issuer")
    issuer = write(tmp_path / "issuer.pem", pem(MAKERS.intermediates[0]))
    status, added = command("crl", "add", file, "--issuer", issuer)
    assert (status, added["fingerprint"], added["revoked"]) == (0, sha256(der), 1)
    assert (added["issuer"], added["next_update"]) == ("CN=Emulated TPM EK Intermediate", TODAY - 60 + 3600)
    (listed,) = command("crl", "list")[1]["crls"]
    assert listed == {**added, "expired": False}
    older = MAKERS.revocation_list(now=TODAY - 120)
    assert code(command("crl", "add", write(tmp_path / "old", older), "--issuer", issuer)) == (1, "crl-older")
    assert code(command("crl", "remove", "ffffffff")) == (1, "id-unknown")
    assert run(["authority", "crl", "list", "--data", str(data)]) == 0
    assert f"{sha256(der)}  1 revoked  until 20" in capsys.readouterr().out
    assert command("crl", "remove", sha256(der)[:8]) == (0, {"removed": sha256(der)})
    assert command("crl", "list")[1] == {"crls": []}


def test_a_list_that_ran_out_is_shown_as_such(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "list", MAKERS.revocation_list(now=TODAY - 60, lifetime=3600))
    command("crl", "add", file, "--issuer", write(tmp_path / "issuer", MAKERS.intermediates[0]))
    monkeypatch.setattr("time.time", lambda: TODAY + 3600.0)
    assert [row["expired"] for row in command("crl", "list")[1]["crls"]] == [True]
