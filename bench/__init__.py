"""Benchmarks: our servers and their peers under the same load, in turn, on the same core."""
