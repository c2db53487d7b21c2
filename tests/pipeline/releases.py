"""Two releases of a compute host as a release pipeline has them: built, measured before any boot, then booted."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reference import machines

from watchword.cli.main import run
from watchword.reference.boot.sheet import capture_sheet

__all__ = ["PCRS", "Built", "Command", "build", "command", "profile", "record"]

PCRS = [*range(15)]
Command = Callable[..., tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Built:
    """One release: its folder with artifacts and release file, and the image that machines boot."""

    folder: Path
    image: machines.hostimage.HostImage

    @property
    def stack(self) -> Path:
        return self.folder / "compute.json"

    @property
    def endorsed(self) -> Path:
        return self.folder / "compute.dsse.json"


def build(boots: Path, folder: Path, scenario: str, serial: int, more: str = "") -> Built:
    """Build the image of ``scenario`` and write a release file beside it; nothing is booted.

    The firmware sheet is of the recorded boot ``good``: firmware is in no file of a release.
    """
    chosen = next(each for each in machines.scenarios.SCENARIOS if each.name == scenario)
    image = machines.hostimage.HostImage.build(chosen, machines.packages())
    folder.mkdir()
    (folder / "compute.efi").write_bytes(image.uki)
    (folder / "compute.img").write_bytes(image.disk())
    sheet = capture_sheet((boots / "good" / "eventlog.bin").read_bytes(), model="ovmf", version="2022.11")
    (folder / "ovmf.json").write_bytes(sheet)
    (folder / "release.toml").write_text(
        f'format = "watchword-release/1"\nname = "fleet"\nversion = "{serial}"\nserial = {serial}\n{more}'
        'disk = "compute.img"\n[firmware]\nsheets = ["ovmf.json"]\n[secure-boot]\nstate = "off"\n'
        '[[boot]]\nkind = "uki"\nimage = "compute.efi"\n'
        '[runtime]\nimages = [{path = "compute.img", partition = "root"}]\n'
    )
    return Built(folder, image)


def record(releases: dict[str, Built], boots: Path) -> None:
    """Boot each release in QEMU with OVMF and a fresh TPM, two at a time, into a recording of its name."""

    def one(name: str, built: Built) -> None:
        evidence = machines.machine.run((built.folder / "compute.img").read_bytes(), machines.scenarios.PLAIN, [])
        folder = boots / name
        folder.mkdir(parents=True)
        for part in ("eventlog.bin", "ima.bin"):
            (folder / part).write_bytes(evidence[part])
        values: dict[str, dict[str, str]] = {}
        for line in evidence["pcrs.txt"].decode().splitlines():
            path, value = line.split()
            values.setdefault(path.split("/")[-2].removeprefix("pcr-"), {})[path.split("/")[-1]] = value.lower()
        (folder / "pcrs.json").write_text(json.dumps(values))
        (folder / "files.json").write_text(json.dumps(built.image.file_digests()))

    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(one, *each) for each in releases.items()]:
            done.result()


def profile(*endorsers: str) -> dict[str, Any]:
    """A profile for a fleet: two of ``endorsers``, every PCR that such a stack covers, and every file listed."""
    rules = {
        "identity": ["virtual"],
        "covers": [0, 4, 7, 9, 11],
        "stacks": ["fleet"],
        "endorsers": {"keys": list(endorsers), "threshold": 2},
        "runtime": "listed",
    }
    levels = [{"name": "gold", "rules": rules}]
    return {"format": "watchword-profile/1", "name": "fleet", "bank": "sha256", "pcrs": PCRS, "levels": levels}


def command(capsys: Any) -> Command:
    """``watchword`` with ``--json``: exit status and document."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        status = run([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, json.loads(said.out)

    return call
