"""Figures of pods, on a real node: `python -m bench.kube`, as root."""
