"""Parts shared by the tenant's guest image and the compute host's image: standard library only, no root."""
