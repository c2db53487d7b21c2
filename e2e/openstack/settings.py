"""Every configuration file of the cloud. What is said twice in OpenStack is said once here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.openstack.guide import Guide
from e2e.openstack.spaces import CONTROLLER, Compute

__all__ = ["AGENT_PORT", "PORTS", "STATUS_URL", "Places", "write_all"]

PORTS = {"keystone": 5000, "glance": 9292, "nova": 8774, "placement": 8778, "neutron": 9696}
AMQP_PORT, AGENT_PORT = 5672, 8449
STATUS_URL = f"http://{CONTROLLER}:8450"
PASSWORD = "everything-here-is-thrown-away"
IDENTITY = f"http://{CONTROLLER}:{PORTS['keystone']}/v3"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders: of the run, of the checkout, and of OpenStack's Python environment."""

    state: Path
    checkout: Path
    environment: Path

    @property
    def socket(self) -> Path:
        return Path("/run/mysql.sock")

    def conf(self, service: str) -> Path:
        return self.state / "conf" / service

    def database(self, name: str) -> str:
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}"

    def program(self, name: str) -> Path:
        return self.environment / "bin" / name

    @property
    def guide(self) -> Guide:
        return Guide(self.checkout)


def _ini(path: Path, **sections: dict[str, object] | str) -> None:
    """Write an oslo.config file; a list is a repeated option."""
    lines: list[str] = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for key, value in dict(options).items():
            for one in value if isinstance(value, list) else [value]:
                lines.append(f"{key} = {str(one).lower() if isinstance(one, bool) else one}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _account(**more: object) -> dict[str, object]:
    """How a service authenticates to another one."""
    return {
        "auth_url": IDENTITY, "auth_type": "password", "project_domain_id": "default", "user_domain_id": "default",
        "project_name": "service", "username": "nova", "password": PASSWORD, "region_name": "RegionOne", **more,
    }  # fmt: skip


def _checks_tokens() -> dict[str, object]:
    return _account(www_authenticate_uri=IDENTITY, service_token_roles_required=True)


def write_all(places: Places, computes: list[Compute], scheduler_asks: bool = True) -> None:
    """Write everything for a run."""
    _keystone(places)
    _glance(places)
    _placement(places)
    _rabbit(places)
    controller(places, scheduler_asks)
    for compute in computes:
        _nova_compute(places, compute)
        _libvirt(compute)


def _keystone(places: Places) -> None:
    keys = places.state / "keys"
    _ini(
        places.conf("keystone") / "keystone.conf",
        DEFAULT={"log_file": places.state / "logs" / "keystone.log"},
        database={"connection": places.database("keystone")},
        fernet_tokens={"key_repository": keys / "fernet"},
        fernet_receipts={"key_repository": keys / "fernet"},
        credential={"key_repository": keys / "credential"},
        token={"provider": "fernet"},
        cache={"enabled": False},
        identity={"password_hash_rounds": 4},
    )


def _glance(places: Places) -> None:
    folder, data = places.conf("glance"), places.state / "glance"
    for name in ("images", "staging", "tasks"):
        (data / name).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(places.environment / "etc/glance/glance-api-paste.ini", folder)
    _ini(
        folder / "glance-api.conf",
        DEFAULT={
            "log_file": places.state / "logs" / "glance.log",
            "enabled_backends": "disk:file",
            "worker_self_reference_url": f"http://{CONTROLLER}:{PORTS['glance']}",
            "enabled_import_methods": "[]",
        },
        glance_store={"default_backend": "disk"},
        disk={"filesystem_store_datadir": data / "images", "filesystem_thin_provisioning": True},
        os_glance_staging_store={"filesystem_store_datadir": data / "staging"},
        os_glance_tasks_store={"filesystem_store_datadir": data / "tasks"},
        database={"connection": places.database("glance")},
        paste_deploy={"flavor": "keystone", "config_file": folder / "glance-api-paste.ini"},
        oslo_concurrency={"lock_path": data},
        keystone_authtoken=_checks_tokens(),
    )


def _placement(places: Places) -> None:
    _ini(
        places.conf("placement") / "placement.conf",
        DEFAULT={"log_file": places.state / "logs" / "placement.log"},
        api={"auth_strategy": "keystone"},
        placement_database={"connection": places.database("placement")},
        keystone_authtoken=_checks_tokens(),
    )


def _rabbit(places: Places) -> None:
    folder = places.conf("rabbit")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = {CONTROLLER}:{AMQP_PORT}\nloopback_users.guest = false\n"
        "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 100MB\n"
    )


def _nova_common(places: Places, host: str, address: str, state: Path | str) -> dict[str, dict[str, object]]:
    helper = {"helper_command": f"{places.program('privsep-helper')} --config-file {{conf}}"}
    return {
        "DEFAULT": {
            "host": host, "my_ip": address, "state_path": state,
            "transport_url": f"rabbit://guest:guest@{CONTROLLER}:{AMQP_PORT}/",
            "graceful_shutdown_timeout": 5, "manager_shutdown_timeout": 2, "rpc_response_timeout": 300,
        },
        "oslo_concurrency": {"lock_path": f"{state}/lock"},
        "glance": {"api_servers": f"http://{CONTROLLER}:{PORTS['glance']}"},
        "placement": _account(),
        "service_user": _account(send_service_user_token=True),
        "neutron": _account(),
        "cinder": _account(),
        "keystone_authtoken": _checks_tokens(),
        "nova_sys_admin": helper,
        "vif_plug_ovs_privileged": dict(helper),
        "privsep_osbrick": dict(helper),
    }  # fmt: skip


def controller(places: Places, scheduler_asks: bool) -> None:
    """The controller's nova. Without ``scheduler_asks`` the scheduler has no filter and no weigher of ours."""
    folder = places.conf("nova")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(places.environment / "etc/nova/api-paste.ini", folder)
    (folder / "policy.yaml").touch()  # of acts: the guide's policy would forbid what they try
    guide = places.guide.settings("openstack-operator", "status_url") if scheduler_asks else {}
    plain = {"enabled_filters": "ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter"}
    scheduler: dict[str, object] = {**guide.get("filter_scheduler", plain), "track_instance_changes": False}
    sections = _nova_common(places, "controller", CONTROLLER, places.state / "nova")
    sections["DEFAULT"] |= {"osapi_compute_workers": 1, "log_dir": places.state / "logs"}
    sections |= {
        "api_database": {"connection": places.database("nova_api")},
        "database": {"connection": places.database("nova_cell1")},
        "wsgi": {"api_paste_config": folder / "api-paste.ini"},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "max_attempts": 3},
        "filter_scheduler": scheduler,
        "watchword": {**guide.get("watchword", {}), "status_url": STATUS_URL},
        "oslo_policy": {"policy_file": folder / "policy.yaml"},
    }
    _write_nova(folder / "nova.conf", sections)


def _nova_compute(places: Places, compute: Compute) -> None:
    sections = _nova_common(places, compute.name, compute.address, "/var/lib/nova")
    sections["DEFAULT"] |= {
        "compute_driver": "libvirt.LibvirtDriver",
        "mkisofs_cmd": "genisoimage", "vif_plugging_is_fatal": False, "vif_plugging_timeout": 0,
        "heal_instance_info_cache_interval": -1, "reserved_host_memory_mb": 0,
        "log_dir": places.state / "logs", "log_file": f"nova-compute-{compute.name}.log",
        "shutdown_timeout": 0,
    }  # fmt: skip
    sections |= {
        "api": {"vendordata_dynamic_connect_timeout": 5},
        "vendordata_dynamic_auth": _account(),
        "compute": {"live_migration_wait_for_vif_plug": False},
        "libvirt": {
            "virt_type": "qemu", "cpu_mode": "none", "inject_partition": -2,
            "hw_machine_type": "x86_64=pc", "live_migration_scheme": "tcp", "live_migration_with_native_tls": False,
            "live_migration_uri": "qemu+tcp://%s/system", "live_migration_inbound_addr": compute.address,
        },
        "vnc": {"enabled": False},
        "spice": {"enabled": False},
        # Its inspection calls a disk with a partition table "gpt", which is not the format that Glance names.
        "workarounds": {"disable_deep_image_inspection": True},
    }  # fmt: skip
    for section, options in places.guide.settings("openstack-operator", "vendordata_providers").items():
        sections[section] = {**sections.get(section, {}), **options}
    sections["api"]["vendordata_dynamic_read_timeout"] = 300  # under emulation, beside others
    _write_nova(places.conf(f"nova-{compute.name}") / "nova.conf", sections)


def _write_nova(path: Path, sections: dict[str, dict[str, object]]) -> None:
    for options in sections.values():
        if "helper_command" in options:
            options["helper_command"] = str(options["helper_command"]).format(conf=path)
    _ini(path, **sections)


def _libvirt(compute: Compute) -> None:
    compute.file("/etc/libvirt/libvirtd.conf").write_text(
        'unix_sock_group = "root"\nauth_unix_rw = "none"\nlisten_tls = 0\nlisten_tcp = 1\nauth_tcp = "none"\n'
        f'listen_addr = "{compute.address}"\nhost_uuid = "5b1c1c1e-5a0c-4f6e-9c39-00000000000{compute.number}"\n'
    )
    compute.file("/etc/libvirt/qemu.conf").write_text(
        'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\n'
        'namespaces = []\ncgroup_controllers = []\nstdio_handler = "file"\n'
        f'migration_address = "{compute.address}"\nmigration_host = "{compute.name}"\n'
    )
