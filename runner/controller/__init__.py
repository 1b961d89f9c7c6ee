"""Runs a cluster's attempts as pods: order → pod → facts → reap.

Law of this room: what a pod is and what its status means are pure functions; one loop performs their effects; what runs
is known from the API server's list alone, so any instance takes over where another was killed.
"""
