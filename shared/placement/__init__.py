"""Where a job may run, where it should, and why not elsewhere: feasible, rank, solve.

Law of this room: pure and incremental. No clock, no bus; the scheduler places with it for real, the autoscaler and a
simulator ask it "what if". Ties are broken by names, so the same picture always gives the same answer.
"""

from shared.placement.fleet import Fleet
from shared.placement.model import Amount, Machine, Target, Want, Why, machine_from, want_of
from shared.placement.reasons import Explanation, explain, unserved

__all__ = [
    "Amount",
    "Explanation",
    "Fleet",
    "Machine",
    "Target",
    "Want",
    "Why",
    "explain",
    "machine_from",
    "unserved",
    "want_of",
]
