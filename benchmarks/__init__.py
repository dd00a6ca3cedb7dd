"""Benches: each prints its table and writes benchmarks/results/<name>.json. `make bench-score`."""
