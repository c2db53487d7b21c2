"""Fixtures for integrations: hosts as OpenStack and libvirt see them."""

from __future__ import annotations

from tests.integrations.openstack.helpers import agent, compute, world

__all__ = ["agent", "compute", "world"]
