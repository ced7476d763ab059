"""Measurements beside a named peer; each writes `benchmarks/results/NAME.json`."""
