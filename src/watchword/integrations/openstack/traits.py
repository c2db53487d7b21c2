"""What a host's level means in the cloud: traits in placement, and an action when a host loses it.

A ladder of traits, because placement knows no "at least": a host of rank 2 has ``CUSTOM_WATCHWORD_LEVEL_1`` and ``_2``.
Through openstacksdk, as the provider's administrator. Source: Placement API 1.6 (traits), Compute API (services).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from watchword.errors import Unavailable, UsageError
from watchword.integrations.openstack.refusals import Refusal

__all__ = ["PREFIX", "REASON", "Watcher", "wanted_traits"]

PREFIX = "CUSTOM_WATCHWORD_LEVEL_"
_HEADERS = {"OpenStack-API-Version": "placement 1.6"}
_SERVICE = "nova-compute"
REASON = "watchword_reason"
_WRITABLE = ("ACTIVE", "PAUSED", "SUSPENDED", "SHUTOFF")
_REASON = "watchword: the host is not trusted"


def wanted_traits(rank: int) -> set[str]:
    """The traits of a host of ``rank``."""
    return {f"{PREFIX}{number}" for number in range(1, rank + 1)}


class Watcher:
    """Brings a cloud in line with hosts' ranks. ``cloud`` is an openstacksdk connection.

    ``action`` is for hosts below ``rank``: "notify" does nothing more than say so, "disable" takes the compute service
    out of scheduling, "stop" also stops its servers. Only a service that was disabled here is enabled again here.
    """

    def __init__(self, cloud: Any, *, rank: int, action: str) -> None:
        self._cloud, self._rank, self._action = cloud, rank, action
        self._told: dict[str, str] = {}  # reasons that were written, by server

    def apply(self, hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One round; what was changed, host by host. Raises :class:`Unavailable` (``provider-refused``)."""
        changes: list[dict[str, Any]] = []
        for name, entry in hosts.items():
            rank = int(entry.get("rank", 0))
            try:
                changes += self._traits(name, rank)
                changes += self._act(name, rank, str(entry.get("reason", "")))
            except UsageError:
                raise
            except Exception as error:  # noqa: BLE001  # keystoneauth and openstacksdk share no base class
                raise Unavailable("provider-refused", f"the cloud answered about {name}: {str(error)[:300]}") from None
        return changes

    def explain(self, refusals: Iterable[Refusal]) -> list[dict[str, Any]]:
        """Write into a server's metadata (``watchword_reason``) why it did not start, for its owner to read.

        Nova takes metadata of servers that are active, paused, suspended or stopped, not of those in ERROR. Raises
        :class:`Unavailable` (``provider-refused``).
        """
        changes: list[dict[str, Any]] = []
        for refusal in refusals:
            if self._told.get(refusal.instance) == refusal.message:
                continue
            try:
                server = self._cloud.compute.get_server(refusal.instance)
                if server.status in _WRITABLE:
                    self._cloud.compute.set_server_metadata(server, **{REASON: refusal.message})
                    self._told[refusal.instance] = refusal.message
                    changes.append({"server": refusal.instance, "reason": refusal.message})
            except Exception as error:  # noqa: BLE001  # keystoneauth and openstacksdk share no base class
                if getattr(error, "status_code", getattr(error, "http_status", None)) not in (404, 409):
                    raise Unavailable("provider-refused", f"the cloud answered: {str(error)[:300]}") from None
        return changes

    def _traits(self, name: str, rank: int) -> list[dict[str, Any]]:
        placement = self._cloud.placement
        found = placement.get("/resource_providers", params={"name": name}, headers=_HEADERS).json()
        changes = []
        for provider in found.get("resource_providers", ()):
            url = f"/resource_providers/{provider['uuid']}/traits"
            current = placement.get(url, headers=_HEADERS).json()
            has = set(current["traits"])
            wants = {trait for trait in has if not trait.startswith(PREFIX)} | wanted_traits(rank)
            if wants == has:
                continue
            for trait in wants - has:
                _expect(placement.put(f"/traits/{trait}", headers=_HEADERS))
            generation = current["resource_provider_generation"]
            body = {"traits": sorted(wants), "resource_provider_generation": generation}
            _expect(placement.put(url, json=body, headers=_HEADERS))
            changes.append({"host": name, "traits": sorted(t for t in wants if t.startswith(PREFIX))})
        return changes

    def _act(self, name: str, rank: int, reason: str) -> list[dict[str, Any]]:
        good = rank >= self._rank
        if self._action == "notify":
            return [] if good else [{"host": name, "below": self._rank, "reason": reason}]
        compute = self._cloud.compute
        service = next(iter(compute.services(host=name, binary=_SERVICE)), None)
        if service is None:
            return []
        ours = str(service.disabled_reason or "").startswith(_REASON)
        if good:
            if service.status != "disabled" or not ours:
                return []
            compute.enable_service(service.id)
            return [{"host": name, "service": "enabled"}]
        changes: list[dict[str, Any]] = []
        if service.status != "disabled":
            compute.disable_service(service.id, disabled_reason=f"{_REASON}: {reason}"[:255])
            changes.append({"host": name, "service": "disabled", "reason": reason})
        if self._action == "stop":
            for server in compute.servers(all_projects=True, compute_host=name, status="ACTIVE"):
                compute.stop_server(server.id)
                changes.append({"host": name, "stopped": server.id})
        return changes


def _expect(answer: Any) -> None:
    if answer.status_code >= 300:
        raise RuntimeError(f"placement answered {answer.status_code}: {answer.text[:200]}")
