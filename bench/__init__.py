"""Figures: how fast and how light, each beside a peer or a limit measured in the same run.

One module a figure, each runnable alone (`python -m bench.handover`). None of them asserts a time: they measure, note
a line in `results/`, and `bench.table` turns the newest lines into the table of README.md.
"""
