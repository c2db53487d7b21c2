"""The guides, followed to the letter on clean Debian machines: ``bin/try-guides``."""
