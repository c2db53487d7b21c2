"""Cross-check with tpm2-tools, which share no code with us: each side must accept what the other made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from watchword.crypto.tpm_seal import boot_policy, make_credential, seal_object
from watchword.errors import Rejected
from watchword.testing.farm import SwTpm
from watchword.verify.ak import VerifiedAk, restore_ak
from watchword.verify.ek import EkClass, host_id
from watchword.verify.quote import verify_quote
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection, Selections, pcr_digest
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import EkKind

pytestmark = pytest.mark.skipif(shutil.which("tpm2_quote") is None, reason="tpm2-tools are not installed")

LIST = "sha256:0,1,2,3,7"
SELECTION: Selections = (PcrSelection(Alg.SHA256, (0, 1, 2, 3, 7)),)
BINDING = bytes(range(32))
SECRET = b"a secret for the other implementation"
MAGIC = bytes.fromhex("badcc0de00000001")  # of the files that tpm2_makecredential and tpm2_activatecredential exchange
AK = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda"
Tool = Callable[..., bytes]


@pytest.fixture
def tool(swtpm: SwTpm, tmp_path: Path) -> Tool:
    """Runs one of the tools against the TPM, in an empty folder."""
    environment = {"PATH": os.environ["PATH"], "TPM2TOOLS_TCTI": swtpm.tcti, "HOME": str(tmp_path)}

    def run(name: str, *arguments: str | int) -> bytes:
        command = [f"tpm2_{name}", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        if name not in ("flushcontext", "getcap"):
            # Without a resource manager the tools leave every key they touch in one of the three slots.
            subprocess.run(["tpm2_flushcontext", "-t"], cwd=tmp_path, env=environment, check=True, timeout=60)
        return done.stdout

    return run


def ek_session(tool: Tool, name: str) -> str:
    """A policy session for one use of a low-range EK."""
    tool("startauthsession", "--policy-session", "-S", name)
    tool("policysecret", "-S", name, "-c", "e")
    return f"session:{name}"


def verified(swtpm: SwTpm, ak: Public) -> VerifiedAk:
    with swtpm.client() as tpm:
        ek = tpm.create_ek()
    return restore_ak(host_id(ek), ek.encode(), ak.encode(), EkClass.VIRTUAL)


def test_they_verify_our_quote(swtpm: SwTpm, tool: Tool, tmp_path: Path) -> None:
    with swtpm.client() as tpm:
        attest, signature, values = tpm.quote_values(SELECTION, BINDING)
        (tmp_path / "ak.pub").write_bytes(tpm.create_ak().encode_2b())
    (tmp_path / "attest").write_bytes(attest)
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "values").write_bytes(b"".join(values[Alg.SHA256][pcr] for pcr in (0, 1, 2, 3, 7)))
    files = ("-u", "ak.pub", "-m", "attest", "-s", "signature", "-g", "sha256")
    tool("checkquote", *files, "-q", BINDING.hex(), "-f", "values", "-F", "values", "-l", LIST)
    with pytest.raises(AssertionError):
        tool("checkquote", *files, "-q", bytes(32).hex())


def test_we_verify_their_quote(swtpm: SwTpm, tool: Tool, tmp_path: Path) -> None:
    tool("createprimary", "-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-g", "sha256", "-a", AK, "-c", "ak.ctx")
    tool("readpublic", "-c", "ak.ctx", "-o", "ak.pub", "-f", "tss")
    tool("quote", "-c", "ak.ctx", "-l", LIST, "-q", BINDING.hex(), "-m", "attest", "-s", "signature", "-g", "sha256")
    with swtpm.client() as tpm:
        values = tpm.read_pcrs(SELECTION)
    ak = verified(swtpm, Public.parse_2b((tmp_path / "ak.pub").read_bytes()))
    attest, signature = (tmp_path / "attest").read_bytes(), (tmp_path / "signature").read_bytes()

    def verify(binding: bytes) -> None:
        result = verify_quote(
            attest=attest,
            signature=signature,
            pcrs=values,
            ak=ak,
            binding=binding,
            selections=SELECTION,
            last=None,
        )
        assert result.values == values

    verify(BINDING)
    with pytest.raises(Rejected):
        verify(bytes(32))


@pytest.mark.parametrize(("kind", "name"), [(EkKind.P256, "ecc"), (EkKind.RSA2048, "rsa")])
def test_they_make_the_same_ek(swtpm: SwTpm, tool: Tool, tmp_path: Path, kind: EkKind, name: str) -> None:
    tool("createek", "-G", name, "-c", "ek.ctx", "-u", "ek.pub", "-f", "tss")
    with swtpm.client() as tpm:
        assert tpm.create_ek(kind) == Public.parse_2b((tmp_path / "ek.pub").read_bytes())


@pytest.mark.parametrize(("kind", "name"), [(EkKind.P256, "ecc"), (EkKind.RSA2048, "rsa")])
def test_they_open_our_release(swtpm: SwTpm, tool: Tool, tmp_path: Path, kind: EkKind, name: str) -> None:
    with swtpm.client(kind) as tpm:
        clock, ek = tpm.read_clock(), tpm.create_ek()
        values = pcr_digest(Alg.SHA256, SELECTION, tpm.read_pcrs(SELECTION))
    limit = clock.clock + 60_000
    sealed = seal_object(ek, SECRET, boot_policy(SELECTION, values, clock.reset_count, limit))
    (tmp_path / "pub").write_bytes(sealed.public)
    (tmp_path / "dup").write_bytes(sealed.duplicate)
    (tmp_path / "seed").write_bytes(sealed.encrypted_seed)
    tool("createek", "-G", name, "-c", "ek.ctx")
    import_auth = ek_session(tool, "import")
    tool("import", "-C", "ek.ctx", "-P", import_auth, "-u", "pub", "-i", "dup", "-s", "seed", "-r", "priv")
    tool("flushcontext", "import")
    load_auth = ek_session(tool, "load")
    tool("load", "-C", "ek.ctx", "-P", load_auth, "-u", "pub", "-r", "priv", "-c", "object")
    tool("flushcontext", "load")
    tool("startauthsession", "--policy-session", "-S", "boot")
    tool("policypcr", "-S", "boot", "-l", LIST)
    tool("policycountertimer", "-S", "boot", "--eq", f"resets={clock.reset_count}")
    tool("policycountertimer", "-S", "boot", "--ult", f"clock={limit}")
    assert tool("unseal", "-c", "object", "-p", "session:boot") == SECRET
    tool("flushcontext", "boot")


@pytest.mark.parametrize("kind", [EkKind.P256, EkKind.RSA2048])
def test_we_open_a_release_with_their_policy(swtpm: SwTpm, tool: Tool, tmp_path: Path, kind: EkKind) -> None:
    with swtpm.client(kind) as tpm:
        clock, ek = tpm.read_clock(), tpm.create_ek()
    limit = clock.clock + 60_000
    tool("startauthsession", "-S", "trial")
    tool("policypcr", "-S", "trial", "-l", LIST)
    tool("policycountertimer", "-S", "trial", "--eq", f"resets={clock.reset_count}")
    tool("policycountertimer", "-S", "trial", "--ult", "-L", "policy", f"clock={limit}")
    tool("flushcontext", "trial")
    sealed = seal_object(ek, SECRET, (tmp_path / "policy").read_bytes())
    blobs = (sealed.public, sealed.duplicate, sealed.encrypted_seed)
    with swtpm.client(kind) as tpm:
        assert tpm.import_and_unseal(*blobs, SELECTION, clock.reset_count, limit) == SECRET


@pytest.mark.parametrize("kind", [EkKind.P256, EkKind.RSA2048])
def test_we_activate_their_credential(swtpm: SwTpm, tool: Tool, tmp_path: Path, kind: EkKind) -> None:
    with swtpm.client(kind) as tpm:
        (tmp_path / "ek.pub").write_bytes(tpm.create_ek().encode_2b())
        ak_name = tpm.create_ak().name()
    (tmp_path / "secret").write_bytes(SECRET[:32])
    tool("makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", ak_name.hex(), "-o", "blob")
    reader = Reader((tmp_path / "blob").read_bytes(), "credential file")
    assert reader.take(8) == MAGIC
    id_object = Writer().sized16(reader.sized16(1024, "credential")).done()
    encrypted_secret = Writer().sized16(reader.sized16(1024, "secret")).done()
    with swtpm.client(kind) as tpm:
        assert tpm.activate_credential(id_object, encrypted_secret) == SECRET[:32]


def test_they_activate_our_credential(swtpm: SwTpm, tool: Tool, tmp_path: Path) -> None:
    tool("createek", "-G", "ecc", "-c", "ek.ctx", "-u", "ek.pub", "-f", "tss")
    tool("createprimary", "-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-g", "sha256", "-a", AK, "-c", "ak.ctx")
    tool("readpublic", "-c", "ak.ctx", "-o", "ak.pub", "-f", "tss")
    ek, ak = (Public.parse_2b((tmp_path / name).read_bytes()) for name in ("ek.pub", "ak.pub"))
    made = make_credential(ek, ak.name(), SECRET[:32])
    (tmp_path / "blob").write_bytes(MAGIC + made.id_object + made.encrypted_secret)
    auth = ek_session(tool, "session")
    tool("activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "blob", "-o", "secret", "-P", auth)
    tool("flushcontext", "session")
    assert (tmp_path / "secret").read_bytes() == SECRET[:32]


def test_they_see_the_certificate_where_a_maker_puts_it(swtpm: SwTpm, tool: Tool) -> None:
    assert tool("nvread", "0x01c0000a") == swtpm.certificates[EkKind.P256]
    tool("getekcertificate", "-o", "rsa.der", "-o", "ecc.der")


def test_they_find_no_handle_of_ours(swtpm: SwTpm, tool: Tool) -> None:
    with swtpm.client() as tpm:
        tpm.quote(SELECTION, BINDING)
    for kind in ("transient", "loaded-session", "saved-session"):
        assert tool("getcap", f"handles-{kind}") == b""
