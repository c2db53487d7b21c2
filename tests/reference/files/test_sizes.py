"""A stack of a whole distribution: 100,000 files with the paths that distributions have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.acts.endorsement import MAX_ENVELOPE, open_stack
from watchword.crypto import dsse
from watchword.policy.document import DIGEST_NAMES
from watchword.policy.stack import MAX_STACK_SIZE, PAYLOAD_TYPE, CompiledStack
from watchword.reference.files import RuntimeReferences
from watchword.wire.tpm.algorithms import Alg

COUNT = 100_000
LISTS = Path("/var/lib/dpkg/info")


def real_paths() -> list[bytes]:
    """Paths of the packages that are installed here; if they are too few, again below other folders."""
    if not LISTS.is_dir():
        pytest.skip("this host has no Debian packages")
    lines = {line for file in sorted(LISTS.glob("*.list")) for line in file.read_bytes().splitlines()}
    paths = sorted(line for line in lines if line.count(b"/") > 2)
    again = [path.replace(b"/", b"/%d" % i, 1) for i in range(1, COUNT // len(paths) + 1) for path in paths]
    return [*paths, *again][:COUNT]


def stack_of(algorithms: tuple[Alg, ...], paths: list[bytes]) -> bytes:
    names = {alg: name for name, alg in DIGEST_NAMES.items()}
    files = {path: frozenset((alg, hashlib.new(names[alg], path).digest()) for alg in algorithms) for path in paths}
    document = {
        "format": "watchword-stack/1",
        "name": "a",
        "version": "1",
        "serial": 1,
        "origin": "computed",
        "pcrs": [4],
        "components": [
            {"name": "b", "variants": [{"name": "b", "events": [{"pcr": 4, "digests": {"sha256": "ab" * 32}}]}]}
        ],
        "runtime": RuntimeReferences(files).runtime(),
    }
    return json.dumps(document, indent=1).encode()


@pytest.mark.parametrize("algorithms", [(Alg.SHA256,), (Alg.SHA256, Alg.SHA512)])
def test_a_distribution_fits_into_a_stack_and_its_envelope(algorithms: tuple[Alg, ...]) -> None:
    data = stack_of(algorithms, real_paths())
    assert len(data) < MAX_STACK_SIZE * 3 // 4, "there must be room for a quarter more"
    key = Ed25519PrivateKey.generate()
    envelope = dsse.sign(data, PAYLOAD_TYPE, [key])
    assert len(envelope) < MAX_ENVELOPE
    document, signers = open_stack(envelope, {dsse.key_id(key.public_key()): key.public_key()})
    assert len(signers) == 1
    assert len(CompiledStack.parse(document).files) == COUNT
