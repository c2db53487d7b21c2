"""Looks at everything that ``watchword agent serve`` needs on a compute host, and says what to fix."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from watchword.agent.config import Config
from watchword.agent.status import Status, report
from watchword.errors import WatchwordError
from watchword.integrations.openstack.settings import ServeSettings, StatusSettings

__all__ = ["examine"]

_ROUTE = "/v1/vendordata"
_SILENT = ("exchange-failed", "exchange-slow")
_TRUE = ("true", "1", "yes", "on")


def examine(
    config: Config, serve: ServeSettings, status: StatusSettings, nova_conf: tuple[Path, ...], hook: Path
) -> Status:
    """The state of this host; never raises for what it finds.

    ``nova_conf`` are nova-compute's settings files in the order in which it reads them, ``hook`` the libvirt hook.
    """
    found = report(config)
    _authority(config, found)
    _nova(_read(nova_conf, found), serve, found)
    if not hook.is_file() or not hook.stat().st_mode & 0o100:
        found.add("hook-missing", f"there is no libvirt hook at {hook}", "watchword libvirt install-hook")
    if not status.rank:
        found.add(
            "rank-unset",
            "with [status] rank = 0 this host is not checked again when machines are started",
            "Set [status] rank to the level that starts need, 1 or more.",
        )
    if not serve.base.parent.is_dir():  # nova makes the cache itself when it builds its first machine
        found.add("base-missing", f"nova keeps no machines in {serve.base.parent}", "Set [serve] base.")
    return found


def _authority(config: Config, found: Status) -> None:
    for authority in config.authorities:
        try:
            keys = authority.authority_keys()
            with closing(authority.exchange(keys, 5.0)) as exchange:
                exchange.send(b"watchword doctor")
        except WatchwordError as error:
            # Any answer will do: what was sent cannot be opened by anybody.
            if error.code in _SILENT:
                found.add(error.code, error.message, error.hint or "Check the network, the address, and the relay.")


def _read(files: tuple[Path, ...], found: Status) -> Mapping[tuple[str, str], list[str]]:
    """Section and key to values. oslo.config's files repeat keys, which configparser does not keep: see _Lists."""
    values: dict[tuple[str, str], list[str]] = {}
    for path in files:
        parser = configparser.RawConfigParser(
            dict_type=_Lists,  # type: ignore[arg-type]
            strict=False,
            default_section="\0",
            interpolation=None,
            comment_prefixes=("#", ";"),
        )
        try:
            parser.read_string(path.read_text(errors="replace"))
        except (OSError, configparser.Error) as error:
            found.add("nova-conf", f"{path} cannot be read: {error}", "Give nova-compute's files with --nova-conf.")
            continue
        for section in parser.sections():
            for key in parser.options(section):
                value = parser.get(section, key)
                parts = [part.strip() for line in str(value).splitlines() for part in line.split(",")]
                values[section.lower(), key] = [part for part in parts if part]
    return values


class _Lists(dict[str, object]):
    """A key that is there again adds a line."""

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            super().__getitem__(key).extend(value)  # type: ignore[attr-defined]
        else:
            super().__setitem__(key, value)


def _nova(values: Mapping[tuple[str, str], list[str]], serve: ServeSettings, found: Status) -> None:
    def one(section: str, key: str, default: str = "") -> str:
        return (values.get((section, key)) or [default])[-1]

    if not values:
        return
    providers = values.get(("api", "vendordata_providers"), ["StaticJSON"])
    if not {"StaticJSON", "DynamicJSON"} <= set(providers):
        found.add(
            "nova-providers", "nova asks no dynamic vendor data", "[api] vendordata_providers = StaticJSON,DynamicJSON"
        )
    wanted = f"cloud-init@http://{serve.listen}{_ROUTE}"
    if wanted not in values.get(("api", "vendordata_dynamic_targets"), []):
        found.add("nova-targets", "nova does not ask this agent", f"[api] vendordata_dynamic_targets = {wanted}")
    if one("api", "vendordata_dynamic_failure_fatal").lower() not in _TRUE:
        found.add(
            "nova-fatal", "a machine boots without its key when this host fails",
            "[api] vendordata_dynamic_failure_fatal = true",
        )  # fmt: skip
    timeout = one("api", "vendordata_dynamic_read_timeout", "5")
    if not timeout.isdigit() or int(timeout) <= serve.deadline + 1:
        found.add(
            "nova-timeout", f"nova gives up after {timeout} s, before this agent does",
            f"[api] vendordata_dynamic_read_timeout = {serve.deadline + 10}",
        )  # fmt: skip
    if one("default", "force_config_drive").lower() not in _TRUE:
        found.add("nova-drive", "machines may start without a config drive", "[DEFAULT] force_config_drive = true")
    if one("default", "config_drive_format", "iso9660") != "iso9660":
        found.add("nova-drive", "config drives are not ISO 9660", "[DEFAULT] config_drive_format = iso9660")
    if one("api", "vendordata_jsonfile_path"):
        found.add(
            "nova-static", "a file of the provider's is put into every machine, and no token binds it",
            "Remove [api] vendordata_jsonfile_path.",
        )  # fmt: skip
