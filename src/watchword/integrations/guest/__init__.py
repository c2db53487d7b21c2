"""Inside a machine: whether it got its key."""
