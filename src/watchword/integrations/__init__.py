"""Watchword inside other people's clouds, one folder each."""
