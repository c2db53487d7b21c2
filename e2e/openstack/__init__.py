"""A real OpenStack on one machine, with Watchword in it, and a provider that cheats.

Started by ``bin/openstack-e2e``.
"""
