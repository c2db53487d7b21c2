"""The parts of the end-to-end run that need no cloud: reading the guides, and looking for a key that leaked."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from e2e.openstack.guide import Guide
from e2e.openstack.leaks import found_in, private_parts
from tests.conftest import ROOT

from watchword.crypto.ssh_key import derive
from watchword.integrations.openstack import cloudconfig

GUIDE = Guide(ROOT)


def test_the_guides_settings_are_what_nova_reads() -> None:
    compute = GUIDE.settings("openstack-operator", "vendordata_providers")
    assert compute["api"]["vendordata_providers"] == "StaticJSON,DynamicJSON"
    scheduler = GUIDE.settings("openstack-operator", "status_url")["filter_scheduler"]
    filters = scheduler["available_filters"]  # a MultiOpt of nova's: repeated; the others are lists in one line
    assert isinstance(filters, list)
    assert [name.rpartition(".")[2] for name in filters] == ["all_filters", "WatchwordFilter"]
    weighers = str(scheduler["weight_classes"]).split(",")
    assert [name.rpartition(".")[2] for name in weighers] == ["all_weighers", "WatchwordWeigher"]


def test_commands_come_from_the_guide() -> None:
    launch = GUIDE.command("openstack-tenant", "openstack launch")
    assert launch[:2] == ["openstack", "launch"]
    assert launch[-2:] == ["--name", "web1"]


@pytest.mark.parametrize("beginning", ["openstack lunch", "launch"])
def test_what_the_guide_does_not_say_is_not_done(beginning: str) -> None:
    with pytest.raises(LookupError):
        GUIDE.command("openstack-tenant", beginning)
    with pytest.raises(LookupError):
        GUIDE.block("openstack-tenant", "yaml", beginning)


def test_packaged_settings_keep_what_is_not_changed() -> None:
    changed = tomllib.loads(
        GUIDE.packaged_settings("agent.toml", serve={"deadline": 280}, tpm={"intermediates": ["a"]})
    )
    packaged = tomllib.loads(GUIDE.packaged("agent.toml"))
    assert changed["serve"] == {**packaged["serve"], "deadline": 280}
    assert changed["tpm"] == {**packaged["tpm"], "intermediates": ["a"]}
    assert changed["authority"] == packaged["authority"]


def test_a_key_that_leaked_is_found(tmp_path: Path) -> None:
    key = derive(bytes(range(32)), bytes(16))
    parts = private_parts(b"\0" * 5000 + cloudconfig.released(key, "web1") + b"\0" * 5000)
    log, drive = tmp_path / "logs" / "agent.log", tmp_path / "instances" / "disk.config"
    for path in (log, drive):
        path.parent.mkdir()
    drive.write_bytes(key.private_openssh)
    log.write_text(key.public_openssh)  # the public half gives nothing away
    assert found_in([tmp_path], [drive.parent], parts)[0] == []
    for part in parts:
        log.write_bytes(b"x" * ((1 << 24) - 20) + part)  # across the border of two pieces
        assert found_in([tmp_path], [drive.parent], parts)[0] == [str(log)]


def test_a_key_in_an_environment_is_found(tmp_path: Path) -> None:
    mine = os.readlink("/proc/self")
    home = next(part for part in Path(f"/proc/{mine}/environ").read_bytes().split(b"\0") if len(part) > 10)
    assert f"/proc/{mine}/environ" in found_in([tmp_path], [], [home])[0]
