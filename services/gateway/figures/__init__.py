"""The four headline figures: stability, speed, cost, security. Folded from facts, so that a restart loses none.

Jobs and attempts come from the projection, refusals and capacity from what services counted on `figures.>`.
"""
