"""Real packages, archives and images, compared with the tools that made them; broken ones, refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.reference.files.artifacts import FILES, deb, expected, ext4, listed, rpm, tar

from watchword.cli.main import run
from watchword.errors import MalformedError, UsageError
from watchword.reference.files import Options, Source, collect
from watchword.wire.tpm.algorithms import Alg


def test_directory(tree: Path) -> None:
    found = listed(tree, at="/opt")
    assert found.listing() == expected("/opt")
    assert found.counts == {"symlink": 1, "files": 5}


@pytest.mark.parametrize("compression", ["gzip", "xz", "none"])
def test_deb(tree: Path, compression: str) -> None:
    package = deb(tree, compression)
    assert listed(package, Options(usrmerge="split")).listing() == expected()
    merged = listed(package).listing()
    assert "/usr/bin/old" in merged
    assert "/bin/old" not in merged
    assert {"/usr/bin/old", "/bin/old"} <= set(listed(package, Options(usrmerge="both")).listing())


@pytest.mark.parametrize("flag", [[], ["-z"], ["-J"], ["-j"], ["--lzma"], ["--zstd"], ["--sparse"], ["--format=pax"]])
def test_tar(tree: Path, flag: list[str]) -> None:
    assert listed(tar(tree, *flag)).listing() == expected()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_ext4(tree: Path, kind: str) -> None:
    out = ext4(tree, *(["-O", "inline_data"] if kind == "ext4" else []), kind=kind)
    assert listed(out).listing() == expected()
    data = bytearray(out.read_bytes())
    data[1024 + 96] |= 4  # needs_recovery
    out.write_bytes(data)
    with pytest.raises(MalformedError, match=r"root\.img"):
        listed(out)


@pytest.mark.parametrize("payload", ["w6.gzdio", "w6.xzdio", "w3.zstdio", "w6.bzdio", "w6.lzdio"])
def test_rpm_is_what_its_header_says(tree: Path, payload: str) -> None:
    package = rpm(tree, payload)
    found = listed(package, Options(usrmerge="split")).listing()
    dump = subprocess.run(["rpm", "-qp", "--dump", package], check=True, capture_output=True, text=True).stdout
    said = {line.split()[0]: line.split()[3] for line in dump.splitlines() if line.split()[4].startswith("0100")}
    assert {path: digests[0].removeprefix("sha256:") for path, digests in found.items()} == said


@pytest.mark.parametrize("name", ["../out", "/etc/passwd"])
def test_a_name_that_leaves_the_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"x")
    out = tmp_path / "bad.tar"
    subprocess.run(["tar", "-P", "-cf", out, "--transform", f"s,x,{name},", "-C", tmp_path, "x"], check=True)
    with pytest.raises(MalformedError, match=r"bad\.tar"):
        listed(out)


def test_cut_off_duplicate_and_bomb(tree: Path) -> None:
    out = tree.parent / "bad.tar"
    subprocess.run(["tar", "-cf", out, "-C", tree, "bin/old"], check=True)
    whole = out.read_bytes()
    for part in (whole[:40_000], whole[: 512 + 70_144] + b"garbage" * 2000):
        out.write_bytes(part)
        with pytest.raises(MalformedError, match=r"bad\.tar"):
            listed(out)
    out.write_bytes(whole)
    subprocess.run(["tar", "-rf", out, "-C", tree, "bin/old"], check=True)
    with pytest.raises(MalformedError, match="twice"):
        listed(out)
    bomb = tree.parent / "bomb.tar.xz"
    (tree / "zeros").write_bytes(b"")
    os.truncate(tree / "zeros", 100 << 20)
    subprocess.run(["tar", "-cJf", bomb, "-C", tree, "zeros"], check=True)
    with pytest.raises(MalformedError, match="bomb"):
        listed(bomb)


def test_patterns_and_kinds(tree: Path) -> None:
    found = listed(tree, Options(exclude=("/usr/share/doc/*", "/bin/ol?")))
    assert set(found.listing()) == {"/usr/bin/tool", "/bin/same", "/e"}
    assert found.counts["excluded"] == 2
    assert set(listed(tree, Options(only_code=True)).listing()) == {"/usr/bin/tool"}
    for pattern in ("/nowhere/*", "bin/*", "/bin/OLD"):
        with pytest.raises(UsageError, match="excludes nothing"):
            listed(tree, Options(exclude=(pattern,)))
    with pytest.raises(UsageError, match="of no kind"):
        listed(tree / "e")


@pytest.mark.parametrize("make", [deb, rpm])
def test_a_package_is_known_by_its_content_not_by_its_name(tree: Path, make: Callable[[Path], Path]) -> None:
    package = make(tree)
    renamed = package.rename(tree.parent / "download")
    merged = listed(renamed).listing()
    assert "/usr/bin/old" in merged
    assert "/bin/old" not in merged
    archive = tar(tree).rename(tree.parent / "fake.deb")
    assert listed(archive).listing() == expected()  # a tree: as it is, not merged


def test_several_sources_and_algorithms(tree: Path) -> None:
    other = tree.parent / "other"
    (other / "usr/bin").mkdir(parents=True)
    (other / "usr/bin/tool").write_bytes(b"another")
    seen: list[tuple[str, int, int]] = []
    sources = [Source(tree), Source(other), Source(tar(tree, "-z"), "/srv")]
    found = collect(sources, Options(algorithms=(Alg.SHA512, Alg.SHA256)), lambda *step: seen.append(step))
    assert set(found.listing()["/usr/bin/tool"]) == {
        f"{name}:{hashlib.new(name, text).hexdigest()}"
        for name in ("sha256", "sha512")
        for text in (b"another", FILES["usr/bin/tool"])
    }
    assert "/srv/bin/old" in found.listing()
    totals = {total for _, _, total in seen}
    assert len(totals) == 1
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == seen[-1][2]


def test_too_many_digests_of_one_path(tree: Path) -> None:
    many = [(b"/e", Alg.SHA256, bytes((i,)) * 32) for i in range(64)]
    with pytest.raises(UsageError, match=r"/e: .* more than 64"):
        collect([Source(tree)], Options(), listed=many)


@pytest.mark.parametrize("at", ["srv", "", "/srv/../x"])
def test_a_place_that_is_none(tree: Path, at: str) -> None:
    with pytest.raises(UsageError, match="the place of a tree"):
        listed(tree, at=at)


def test_command(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tree.parent / "files.json"
    assert run(["stack", "files", str(tree), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paths"] == 5
    assert json.loads(out.read_text()) == expected()
    out.unlink()
    (tree.parent / "cut.deb").write_bytes(b"!<arch>\n")
    assert run(["stack", "files", str(tree.parent / "cut.deb"), "-o", str(out)]) == 3
    assert "cut.deb" in capsys.readouterr().err
    assert [path.name for path in tree.parent.glob("*files.json*")] == []
    assert run(["stack", "files", "-o", str(out)]) == 1
