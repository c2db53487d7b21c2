"""Watchword: proof that a virtual machine runs on a host whose software somebody independent has checked."""

__version__ = "0.1.0"
