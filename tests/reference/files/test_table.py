"""The table [runtime] of a release file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.reference.files.artifacts import ROOT, deb, disk, expected, ext4, tar

from watchword.errors import MalformedError, UsageError
from watchword.policy.stack import CompiledStack
from watchword.reference.files import files_from_table, read_runtime

HEX = "ab" * 32
WHOLE = """
packages = ["debs/*.deb"]
directories = [{path = "root", at = "/tree"}, "root/usr"]
archives = [{path = "root.tar", at = "/archive"}]
images = [{path = "disk.img", partition = "root", at = "/image"}]
files = ["more.json"]
exclude = ["/archive/usr/*"]
only-code = false
usrmerge = "both"
algorithms = ["sha256"]
signers = ["ima.pem"]
keyrings = {".ima" = ["*.pem"]}
"""


@pytest.fixture
def release(tree: Path) -> Path:
    base = tree.parent
    (base / "debs").mkdir()
    deb(tree).rename(base / "debs/tool.deb")
    disk((ROOT, "a", ext4(tree)))
    tar(tree)
    (base / "more.json").write_text(json.dumps({"/more": f"sha256:{HEX}"}))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (base / "ima.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return base


def test_all_keys(release: Path) -> None:
    runtime = read_runtime(tomllib.loads(WHOLE), release)
    files = expected("/tree") | expected("/image") | expected() | {"/more": [f"sha256:{HEX}"]}
    files |= {path: value for path, value in expected("/archive").items() if not path.startswith("/archive/usr")}
    files |= {"/usr" + path: value for path, value in expected().items() if path.startswith("/bin/")}
    files |= {path.removeprefix("/usr"): value for path, value in expected().items() if path.startswith("/usr/")}
    assert runtime["files"] == files
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", release / "ima.pem", "-outform", "der"], check=True, capture_output=True
    ).stdout
    assert runtime["keyrings"] == {".ima": ["sha256:" + hashlib.sha256(der).hexdigest()]}
    document = {
        "format": "watchword-stack/1",
        "name": "a",
        "version": "1",
        "serial": 1,
        "origin": "computed",
        "pcrs": [4],
        "components": [{"name": "b", "variants": [{"name": "b", "events": [{"pcr": 4, "digests": {"sha256": HEX}}]}]}],
        "runtime": runtime,
    }
    stack = CompiledStack.parse(json.dumps(document).encode())
    assert len(stack.files) == len(files)
    assert len(stack.signers) == 1
    assert list(stack.keyrings) == [b".ima"]


def test_other_hashes_and_only_code(release: Path) -> None:
    table = {"directories": ["root"], "algorithms": ["sha512", "sha512"], "only-code": True}
    [(path, [digest])] = read_runtime(table, release)["files"].items()
    assert path == "/usr/bin/tool"
    assert digest == "sha512:" + hashlib.sha512((release / "root/usr/bin/tool").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("package = []", "runtime: .*`package`; is packages meant"),
        ("wheels = []", "runtime: .*`wheels`; known are packages, directories"),
        ("images = [{path = 'x', partitions = 1}]", r"runtime.images\[0\]: .*`partitions`; is partition meant"),
        ("directories = [{path = 'x', partition = 1}]", r"runtime.directories\[0\]: .*`partition`; .* path"),
        ("packages = 'x.deb'", "runtime.packages: Expected `array`, got `str`"),
        ("only-code = 1", "runtime.only-code: Expected `bool`, got `int`"),
        ("only_code = true", "`only_code`; is only-code meant"),
        ("packages = ['']", r"runtime.packages\[0\]"),
        ("images = [{path = 'x', partition = 0}]", r"runtime.images\[0\].partition"),
        ("images = [{at = '/'}]", r"runtime.images\[0\]: .*missing required field `path`"),
        ("directories = [{path = 'root', at = 'x'}]", r"runtime.directories\[0\].at"),
        ("usrmerge = 'yes'", "runtime.usrmerge: Invalid enum value 'yes'"),
        ("algorithms = ['sha1']", r"runtime.algorithms\[0\]: Invalid enum value 'sha1'"),
        ("algorithms = []", "runtime.algorithms"),
        ("agent = 1", "runtime.agent"),
        ("exclude = ['/x']", "names no files and no signers"),
    ],
)
def test_a_table_that_is_wrong(release: Path, text: str, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        files_from_table(tomllib.loads(text), release)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("packages = ['debs/*.rpm']", r"debs/\*\.rpm: matches no file"),
        ("packages = ['root.tar']", r"root\.tar: is listed under packages, but is of the kind tar"),
        ("directories = ['root.tar']", "under directories, but is of the kind tar"),
        ("archives = ['root']", "under archives, but is of the kind directory"),
        ("images = ['debs/tool.deb']", "under images, but is of the kind deb"),
        ("files = ['ima.pem']", r"ima\.pem: files: line 1"),
        ("directories = ['root']\nsigners = ['more.json']", r"more\.json: is not a public key"),
        ("directories = ['root']\nkeyrings = {'.ima' = ['none.pem']}", r"none\.pem: matches no file"),
        ("directories = ['root']\nexclude = ['/typo/*']", "excludes nothing"),
        ("agent = 'root'", "is not a virtual environment"),
    ],
)
def test_artifacts_that_are_wrong(release: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        files_from_table(tomllib.loads(text), release)


def test_names_with_brackets(tree: Path) -> None:
    base = tree.parent / "[base]"
    base.mkdir()
    tree.rename(base / "a[1]")
    assert files_from_table({"directories": ["a[1]"]}, base).listing() == expected()
