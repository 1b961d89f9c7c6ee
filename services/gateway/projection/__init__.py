"""The gateway's read model: EVT folded into SQLite, in one transaction with the sequence it has reached.

The room's law: nothing here is truth. One thread writes; applying a message twice, late or from a stale epoch changes
nothing; the file can be deleted at any time and comes back from JOBS, DONE and EVT.
"""
