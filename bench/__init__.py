"""Benchmarks. Ratios within one run mean something everywhere; absolute figures mean this machine, today."""
