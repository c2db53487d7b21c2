"""Nova's own code, in a process of its own environment, against the real agent and the real status service."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.integrations.openstack.helpers import IMAGE, ask_in_process, start
from tests.integrations.openstack.test_vendordata import token_for

from watchword.agent.attest import attest
from watchword.crypto.ssh_key import derive
from watchword.integrations.openstack.service import AgentService
from watchword.integrations.openstack.status_service import StatusConfig, Statuses, StatusServer
from watchword.testing.compute import ComputeHost, Instance
from watchword.testing.world import Token, World

PYTHON = ROOT / ".tools" / "nova" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="nova is not installed: bin/test puts it into .tools/nova")


def in_nova(*questions: dict[str, Any]) -> list[dict[str, Any]]:
    program = Path(__file__).with_name("in_nova.py")
    done = subprocess.run(
        [str(PYTHON), str(program)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), "HOME": "/tmp"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def question(agent: AgentService, instance: Instance, token: Token | None, path: Path) -> dict[str, Any]:
    return {
        "do": "drive",
        "url": agent.url,
        "instance": instance.id,
        "image": instance.image,
        "user_data": None,
        "metadata": {"watchword": token.text} if token else {},
        "path": str(path),
        "mkisofs": mkisofs(),
    }


def mkisofs() -> str:
    found = shutil.which("genisoimage") or shutil.which("mkisofs") or shutil.which("xorrisofs")
    if found is None:
        pytest.skip("no program that makes ISO 9660 images is installed")
    return found


def extract(drive: Path, folder: Path) -> Path:
    line = ["xorriso", "-osirrox", "on", "-indev", str(drive), "-extract", "/", str(folder)]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    return folder


def test_novas_config_drive_has_the_key(agent: AgentService, compute: ComputeHost, tmp_path: Path) -> None:
    asking, plain = (compute.spawn(compute.image(IMAGE)) for _ in range(2))
    token = token_for(compute.world)
    first, second = tmp_path / "asking.iso", tmp_path / "plain.iso"
    made = in_nova(question(agent, asking, token, first), question(agent, plain, None, second))
    assert made == [{"path": str(first)}, {"path": str(second)}]
    # Nova asked several times for one drive, and the authority released once.
    assert [each.outcome for each in compute.world.decisions(token)] == ["released"]
    folder = extract(first, tmp_path / "a") / "openstack" / "latest"
    vendor = json.loads((folder / "vendor_data2.json").read_text())
    key = derive(token.body.secret, token.body.launch_id)
    assert key.public_openssh in vendor["cloud-init"]
    plain_vendor = extract(second, tmp_path / "b") / "openstack" / "latest" / "vendor_data2.json"
    assert json.loads(plain_vendor.read_text())["cloud-init"] == {}
    check_with_cloud_init(tmp_path / "a", key.public_openssh)


def check_with_cloud_init(folder: Path, public: str) -> None:
    """cloud-init's own reader of config drives, on the drive that nova wrote."""
    python = Path("/usr/bin/python3")
    program = """
import json, sys
from cloudinit.sources.DataSourceConfigDrive import read_config_drive
from cloudinit.sources import convert_vendordata
from cloudinit import util
found = read_config_drive(sys.argv[1])
print(json.dumps(util.load_yaml(convert_vendordata(found["vendordata2"]))))
"""
    done = subprocess.run([str(python), "-c", program, str(folder)], capture_output=True, text=True, check=False)
    if "No module named 'cloudinit'" in done.stderr:
        pytest.skip("cloud-init is not installed")
    config = json.loads(done.stdout)
    assert config["ssh_keys"]["ed25519_public"] == public
    assert config["ssh_keys"]["ed25519_private"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert config["allow_public_ssh_keys"] is False
    assert json.loads(config["write_files"][0]["content"])["released"] is True


def test_a_bad_host_fails_novas_build_in_time(world: World, tmp_path: Path) -> None:
    compute = ComputeHost(world, world.host("kernel"), tmp_path)
    instance = compute.spawn(compute.image(IMAGE))
    with start(compute) as agent:
        (made,) = in_nova(question(agent, instance, token_for(world), tmp_path / "drive.iso"))
    assert made["status"] == 503
    # What keystoneauth makes of the answer is what nova puts into its fault.
    assert made["text"].startswith("watchword: [E2] stack-none: ")
    assert made["text"].endswith("(HTTP 503)")
    assert not (tmp_path / "drive.iso").exists()


@pytest.fixture
def status_url(world: World) -> Iterator[str]:
    """A status service that knows one good host and one bad one."""
    world.watch()
    good, bad = world.host(), world.host("kernel")
    hosts = {good.host_id.hex(): "cmp1", bad.host_id.hex(): "cmp2"}
    before, world.now = world.now, int(time.time())
    for host in (good, bad):
        host.use(lambda view, host=host: attest(view, host.host_id))
    statuses = Statuses(StatusConfig("", "", ("boot", "full"), hosts), ask_in_process(world))
    statuses.refresh()
    world.now = before
    with StatusServer("127.0.0.1", 0, statuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_novas_scheduler_avoids_untrusted_hosts(status_url: str) -> None:
    every = ["cmp2", "cmp1", "cmp3"]

    def ask(extra_specs: dict[str, str], hints: dict[str, list[str]] | None = None, url: str = "") -> dict[str, Any]:
        return {
            "do": "schedule",
            "url": url or status_url,
            "hosts": every,
            "extra_specs": extra_specs,
            "hints": hints or {},
        }

    plain, level, rank, hint, high, unknown, gone = in_nova(
        ask({}),
        ask({"trust:level": "full"}),
        ask({"trust:level": "2"}),
        ask({}, {"watchword_level": ["trusted"]}),
        ask({"trust:level": "3"}),
        ask({"trust:level": "golden"}),
        ask({"trust:level": "trusted"}, url="http://127.0.0.1:9"),
    )
    assert plain["loaded"] == 1
    assert plain["rebuild"] is True
    assert plain["passed"] == every
    assert plain["order"][-1] == "cmp1"
    for found in (level, rank, hint):
        assert found["passed"] == ["cmp1"]
        assert found["order"][0] == "cmp1"
    for found in (high, unknown, gone):
        assert found["passed"] == []
