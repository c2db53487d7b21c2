"""A published set of attacks on evidence, and what runs any verifier over it."""
