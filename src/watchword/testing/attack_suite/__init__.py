"""Makes ``vectors/attacks``: good evidence from real emulated TPMs, and each attack on it with one thing broken."""
