"""libvirt: what a domain boots from, and a hook that every start of a domain passes."""
