"""Runs in nova's own environment: nova's code asks, builds and schedules, and prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from nova import context, objects
from nova.api.metadata import base
from nova.conf import CONF
from nova.virt import configdrive


def make_instance(asked: dict[str, Any]) -> Any:
    objects.register_all()
    flavor = objects.Flavor(
        id=1, flavorid="1", name="m1", memory_mb=128, vcpus=1, root_gb=0, ephemeral_gb=0, swap=0, extra_specs={}
    )
    return objects.Instance(
        context=context.get_admin_context(),
        id=1,
        uuid=asked["instance"],
        project_id="p",
        user_id="u",
        image_ref=asked["image"],
        user_data=asked["user_data"],
        hostname="web1",
        display_name="web1",
        metadata=asked["metadata"],
        system_metadata={},
        key_name=None,
        key_data=None,
        keypairs=objects.KeyPairList(objects=[]),
        availability_zone="nova",
        launch_index=0,
        host="cmp1",
        flavor=flavor,
        security_groups=objects.SecurityGroupList(objects=[]),
        device_metadata=None,
        trusted_certs=None,
        numa_topology=None,
        pci_requests=None,
        pci_devices=None,
        vcpu_model=None,
        migration_context=None,
        resources=None,
        tags=objects.TagList(objects=[]),
        reservation_id="r-1",
        root_device_name="/dev/vda",
        default_ephemeral_device=None,
        default_swap_device=None,
        ec2_ids=objects.EC2Ids(instance_id="i-1", ami_id="ami-1", kernel_id=None, ramdisk_id=None),
        dns_domain=None,
    )


def drive(asked: dict[str, Any]) -> dict[str, Any]:
    """What ``LibvirtDriver._create_configdrive`` does."""
    CONF.set_override("vendordata_providers", ["StaticJSON", "DynamicJSON"], "api")
    CONF.set_override("vendordata_dynamic_targets", [f"cloud-init@{asked['url']}/v1/vendordata"], "api")
    CONF.set_override("vendordata_dynamic_failure_fatal", True, "api")
    CONF.set_override("vendordata_dynamic_read_timeout", asked.get("timeout", 60), "api")
    CONF.set_override("mkisofs_cmd", asked["mkisofs"])
    # A database and neutron would answer: no volumes, no security groups.
    base.security_group_api.get_instance_security_groups = lambda *_: []
    objects.Instance.get_bdms = lambda self: objects.BlockDeviceMappingList(objects=[])
    try:
        metadata = base.InstanceMetadata(make_instance(asked), content=[], extra_md={}, network_info=[])
        with configdrive.ConfigDriveBuilder(instance_md=metadata) as builder:
            builder.make_drive(asked["path"])
    except Exception as error:  # noqa: BLE001
        return {"error": type(error).__name__, "status": getattr(error, "http_status", None), "text": str(error)}
    return {"path": asked["path"]}


def schedule(asked: dict[str, Any]) -> dict[str, Any]:
    """What ``HostManager`` and the scheduler do: load by name, filter, weigh."""
    from nova.scheduler import filters, host_manager, weights

    objects.register_all()
    module = "watchword.integrations.openstack.nova_scheduler"
    loaded = filters.HostFilterHandler().get_matching_classes(
        ["nova.scheduler.filters.all_filters", f"{module}.WatchwordFilter"]
    )
    chosen = [each for each in loaded if each.__name__ == "WatchwordFilter"]
    weighers = weights.HostWeightHandler().get_matching_classes([f"{module}.WatchwordWeigher"])
    CONF.set_override("status_url", asked["url"], "watchword")
    hosts = [host_manager.HostState(name, name, "cell") for name in asked["hosts"]]
    spec = objects.RequestSpec(
        context=context.get_admin_context(),
        flavor=objects.Flavor(extra_specs=asked["extra_specs"]),
        scheduler_hints=asked["hints"],
        instance_uuid="00000000-0000-4000-8000-000000000001",
    )
    handler = filters.HostFilterHandler()
    passed = list(handler.get_filtered_objects([each() for each in chosen], hosts, spec))
    weighed = weights.HostWeightHandler().get_weighed_objects([each() for each in weighers], hosts, spec)
    return {
        "loaded": len(chosen),
        "rebuild": chosen[0].RUN_ON_REBUILD,
        "passed": [host.host for host in passed],
        "order": [each.obj.host for each in weighed],
    }


if __name__ == "__main__":
    CONF([], project="nova", default_config_files=[])
    question = json.loads(sys.stdin.read())
    answers = [{"drive": drive, "schedule": schedule}[each["do"]](each) for each in question]
    print(json.dumps(answers))
