"""OpenStack: the agent as nova's vendor-data service, scheduling by trust, and the tenant's launch."""
