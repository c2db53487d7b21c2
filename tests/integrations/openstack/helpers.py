"""A compute host with a real TPM, a real authority behind a real relay, and libvirt's own driver for tests."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from watchword.agent import config as settings
from watchword.authority.app import Services
from watchword.authority.routes.host_states import _Question, _states
from watchword.integrations.openstack.service import AgentService
from watchword.integrations.openstack.settings import load_sections
from watchword.testing.compute import ComputeHost, Instance
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World

IMAGE = b"the tenant's image " * 5000


@pytest.fixture(scope="session")
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: tests with a TPM are left out")
    if shutil.which("virsh") is None:
        pytest.skip("virsh is not installed: tests with libvirt are left out")
    with World(boots, relayed=True) as world:
        world.watch()
        yield world


@pytest.fixture
def compute(world: World, tmp_path: Path) -> ComputeHost:
    """A good host."""
    return ComputeHost(world, world.host(), tmp_path)


@pytest.fixture
def agent(compute: ComputeHost) -> Iterator[AgentService]:
    """Its agent, running."""
    with start(compute) as service:
        yield service


def start(compute: ComputeHost) -> AgentService:
    return AgentService(settings.load(compute.config), *load_sections(compute.config))


def body(instance: Instance, token: str | None, user_data: bytes | None = None, **metadata: str) -> dict[str, Any]:
    """What nova posts."""
    asked = {"watchword": token, **metadata} if token is not None else metadata
    return {
        "project-id": "p",
        "instance-id": instance.id,
        "image-id": instance.image,
        "user-data": base64.b64encode(user_data).decode() if user_data is not None else None,
        "hostname": "web1",
        "metadata": asked,
        "boot-roles": "member",
    }


def ask(service: AgentService, document: dict[str, Any] | bytes, **headers: str) -> httpx2.Response:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return httpx2.post(f"{service.url}/v1/vendordata", content=content, headers=headers, timeout=60)


def ask_in_process(world: World) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """What the authority answers to ``POST /v1/host-states``, without HTTP in between."""
    services = Services(world.launches, world.store, lambda: world.keys, lambda: world.now)

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = _states(services, msgspec.convert(question, _Question))
        states: Mapping[str, Any] = answer["states"]
        return states

    return ask
