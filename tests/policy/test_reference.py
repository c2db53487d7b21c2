"""The examples in the reference pages are documents that parse."""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.policy.profile import Profile
from watchword.policy.stack import CompiledStack

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def example(page: str) -> bytes:
    """The first JSON example of a page, with every "…" filled in."""
    found = re.search(r"```json\n(.*?)```", (REFERENCE / page).read_text(), re.DOTALL)
    assert found is not None
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = found[1].replace("…base64 of a public key in DER…", base64.b64encode(der).decode())
    numbers = itertools.count()
    return re.sub(r"…(?:64 hex digits…)?", lambda _: f"{next(numbers):064x}", text).encode()


def test_stack_format() -> None:
    stack = CompiledStack.parse(example("stack-format.md"))
    assert stack.signers
    assert stack.files


def test_profile_format() -> None:
    assert [level.name for level in Profile.parse(example("profile-format.md")).levels] == ["silver", "gold"]
