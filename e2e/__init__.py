"""Watchword inside other people's software, end to end."""
