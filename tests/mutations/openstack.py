"""Checks of the agent as a service and of the libvirt hook (clauses L and O)."""

from __future__ import annotations

from .mutation import Mutation

__all__ = ["MUTATIONS"]

_BUILDS = "integrations/openstack/builds.py"
_VENDORDATA = "tests/integrations/openstack/test_vendordata.py::"
_HOOK = "tests/integrations/libvirt/test_hook.py::"
_FAILURES = "tests/integrations/openstack/test_failures.py::"

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "L1",
        _BUILDS,
        "            if domain.is_rescue:\n                raise Rejected(\n",
        "            if False:\n                raise Rejected(\n",
        (_VENDORDATA + "test_a_rescue_gets_no_secret_and_nobody_is_asked",),
    ),
    Mutation(
        "L2",
        _BUILDS,
        "            check_inputs(secret.inputs, inputs_digest(used))\n",
        "",
        (_VENDORDATA + "test_another_image_is_refused",),
    ),
    Mutation(
        "L2",
        _BUILDS,
        "            if _fingerprint(state for image in held.values() for state in image.states) != measured:",
        "            if False:",
        (_HOOK + "test_the_first_start_is_of_what_was_measured",),
    ),
    Mutation(
        "L2",
        "agent/images.py",
        "            if isinstance(piece, bytes) and piece.count(0) != len(piece):",
        "            if False:",
        (_VENDORDATA + "test_something_behind_the_image_is_refused",),
    ),
    Mutation(
        "L2",
        "agent/inputs.py",
        "    if unnamed:",
        "    if False:",
        ("tests/agent/test_inputs.py::test_an_input_in_use_that_is_not_named_is_a_difference",),
    ),
    Mutation(
        "L2",
        "wire/qcow2.py",
        '        if backing and form not in ("raw", "qcow2"):',
        "        if False:",
        ("tests/wire/test_qcow2.py::test_a_backing_file_must_have_a_format",),
    ),
    Mutation(
        "O1",
        "integrations/openstack/server.py",
        "        if not self.server.peers.allows(self.client_address[0], self.client_address[1]):",
        "        if False:",
        (_FAILURES + "test_only_users_that_are_named_may_ask",),
    ),
    Mutation(
        "O2",
        "integrations/openstack/attestor.py",
        "        if found.state not in _GOOD or found.rank < self._settings.rank:",
        "        if False:",
        (_HOOK + "test_a_host_that_changed_does_not",),
    ),
    Mutation(
        "O2",
        "integrations/openstack/attestor.py",
        "            if good == self._needed:",
        "            if good:",
        ("tests/integrations/openstack/test_attestors.py",),
    ),
    Mutation(
        "O2",
        "integrations/openstack/attestor.py",
        "link = host.links[self._number]",
        "link = host.links[0]",
        ("tests/integrations/openstack/test_attestors.py",),
    ),
    Mutation(
        "O2",
        "integrations/libvirt/gate.py",
        "    return blank\n",
        "    return False\n",
        (_HOOK + "test_the_target_of_a_migration_whose_drive_is_not_copied_yet",),
    ),
    Mutation(
        "O2",
        "integrations/libvirt/hook.py",
        " or not any(content):",
        ":",
        (_HOOK + "test_without_an_agent_a_drive_without_content_counts",),
    ),
)
