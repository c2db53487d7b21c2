"""TPM 2.0 structures as frozen values: bytes in, bytes out, nothing judged.

Every name is the one of the Trusted Computing Group's TPM 2.0 Library specification, Part 2 (structures) and
Part 1 (names, key derivation, policies), in Python spelling. Standard library only.
"""
