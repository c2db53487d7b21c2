"""A profile may have further PCR banks quoted: the boot log must explain them as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from watchword.errors import MalformedError, Rejected
from watchword.policy.explain import explain_profile
from watchword.policy.profile import Profile
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World, profile_document
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection


def document(also: object) -> bytes:
    profile: dict[str, Any] = json.loads(profile_document())
    return json.dumps({**profile, "also": also}).encode()


def test_further_banks_are_quoted_after_the_profiles_own() -> None:
    profile = Profile.parse(document({"sha384": [0, 4], "sha1": [7]}))
    assert profile.selections()[1:] == (PcrSelection(Alg.SHA1, (7,)), PcrSelection(Alg.SHA384, (0, 4)))
    assert [selection.bank for selection in profile.boot_selections()] == [Alg.SHA256]
    assert "Quotes PCRs 7 of the sha1 bank as well." in explain_profile(profile)


@pytest.mark.parametrize(
    ("also", "place"),
    [
        ({"sha256": [0]}, "also.sha256"),
        ({"md5": [0]}, "also.md5"),
        ({"sha1": []}, "also"),
        ({"sha1": [10]}, "also.sha1"),
        ({"sha1": [16]}, "pcrs"),
        ({"sha1": [4, 0]}, "pcrs"),
        ([], "also"),
    ],
)
def test_what_is_refused(also: object, place: str) -> None:
    with pytest.raises(MalformedError, match=place):
        Profile.parse(document(also))


@pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")
def test_a_log_must_explain_every_bank(boots: Path) -> None:
    with World(boots) as world:
        world.add_profile(document({"sha1": [0, 4, 7], "sha512": [9]}))
        host, token = world.host(), world.token()
        assert host.obtain(token).secret == token.body.secret

        path = host.machine.event_log_path
        log = path.read_bytes()
        event = next(e for e in EventLog.parse(log).events if e.pcr == 4 and e.digest(Alg.SHA1) is not None)
        digest = event.digest(Alg.SHA1)
        assert digest is not None
        path.write_bytes(log.replace(digest, bytes(20)))  # right in SHA-256, wrong in SHA-1
        with pytest.raises(Rejected) as caught:
            host.obtain(world.token())
        assert (caught.value.clause, caught.value.code) == ("C2", "boot-log-replay")
