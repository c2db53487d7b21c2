"""Signatures with the key pair that Debian's ovmf package publishes: good for tests and for nothing else."""

import subprocess
import tempfile
from pathlib import Path

KEY = "/usr/share/ovmf/PkKek-1-snakeoil.key"
CERTIFICATE = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
PASSPHRASE = "pass:snakeoil"  # published with the key
XATTR_DIGSIG, VERSION_2, HASH_SHA256 = 3, 2, 4


def sign_efi(sbsign: Path, program: bytes) -> bytes:
    """Return the EFI program with an Authenticode signature; its own digest stays the same."""
    with tempfile.TemporaryDirectory() as scratch:
        key, source, target = Path(scratch, "key"), Path(scratch, "in.efi"), Path(scratch, "out.efi")
        subprocess.run(["openssl", "pkey", "-in", KEY, "-passin", PASSPHRASE, "-out", key], check=True)
        source.write_bytes(program)
        command: list[str | Path] = [sbsign, "--key", key, "--cert", CERTIFICATE, "--output", target, source]
        subprocess.run(command, check=True, capture_output=True)
        return target.read_bytes()


def ima_signature(content: bytes) -> bytes:
    """Return the value of security.ima for a file: a signature over its SHA-256 digest.

    The form is the kernel's struct signature_v2_hdr (security/integrity/integrity.h).
    """
    command = ["openssl", "dgst", "-sha256", "-sign", KEY, "-passin", PASSPHRASE]
    signature = subprocess.run(command, input=content, capture_output=True, check=True).stdout
    header = bytes([XATTR_DIGSIG, VERSION_2, HASH_SHA256]) + _key_id() + len(signature).to_bytes(2, "big")
    return header + signature


def _key_id() -> bytes:
    """Return the last four bytes of the certificate's subject key identifier, by which the kernel finds a key."""
    command = ["openssl", "x509", "-in", CERTIFICATE, "-noout", "-ext", "subjectKeyIdentifier"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return bytes.fromhex(text.split()[-1].replace(":", ""))[-4:]
