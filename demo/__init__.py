"""The demonstration: a tenant, an authority, three hosts, and a provider that is honest once and then cheats."""
