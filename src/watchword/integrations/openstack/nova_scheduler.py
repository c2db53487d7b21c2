"""Nova's scheduler prefers and demands trusted hosts: a filter and a weigher, for nova's own environment.

Imported by nova and by nothing of ours. ``[watchword] status_url`` in nova.conf says where the status service is.
Convenience of a provider for its tenants: a tenant's verdict never depends on it.
Source: Nova reference, "Filter Scheduler", "Writing Your Own Filter".
"""

from __future__ import annotations

import threading
import time

import nova.conf  # type: ignore[import-not-found]
from nova.scheduler import filters, weights  # type: ignore[import-not-found]
from oslo_config import cfg  # type: ignore[import-not-found]

from watchword.integrations.openstack.trust_query import StatusClient, demands, satisfies

__all__ = ["WatchwordFilter", "WatchwordWeigher"]

CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.StrOpt("status_url", default="http://127.0.0.1:8450", help="Watchword's status service."),
        cfg.FloatOpt("status_timeout", default=2.0, min=0.1, max=10.0, help="Seconds to wait for it."),
        cfg.FloatOpt("weight_multiplier", default=1.0, help="How much a host's level weighs."),
    ],
    group="watchword",
)
_lock = threading.Lock()
_clients: dict[str, StatusClient] = {}


def client() -> StatusClient:
    """One client for filter and weigher, so that one request asks once."""
    url = CONF.watchword.status_url
    with _lock:
        return _clients.setdefault(url, StatusClient(url, CONF.watchword.status_timeout))


class WatchwordFilter(filters.BaseHostFilter):  # type: ignore[misc]
    """Passes hosts that reach every level asked for; all of them when none is."""

    RUN_ON_REBUILD = True  # a rebuild with another image asks again

    def host_passes(self, host_state, spec_obj):  # type: ignore[no-untyped-def]
        hints = spec_obj.scheduler_hints if "scheduler_hints" in spec_obj else None
        wanted = demands(spec_obj.flavor.extra_specs if "extra_specs" in spec_obj.flavor else None, hints)
        if not wanted:
            return True
        hosts = client().hosts()
        rank = hosts.rank(host_state.host, time.time())
        return all(satisfies(rank, level, hosts.levels) for level in wanted)


class WatchwordWeigher(weights.BaseHostWeigher):  # type: ignore[misc]
    """Prefers hosts of a higher level, for requests that ask for one; others keep those hosts free."""

    def weight_multiplier(self, host_state):  # type: ignore[no-untyped-def]
        return CONF.watchword.weight_multiplier

    def _weigh_object(self, host_state, weight_properties):  # type: ignore[no-untyped-def]
        rank = client().hosts().rank(host_state.host, time.time())
        flavor = weight_properties.flavor
        hints = weight_properties.scheduler_hints if "scheduler_hints" in weight_properties else None
        asked = demands(flavor.extra_specs if "extra_specs" in flavor else None, hints)
        return float(rank if asked else -rank)
