"""Step-ctl: one lean process per attempt that tells the bus what the attempt directory says, and moves what goes in and
out.

Law of the room: the directory is the truth, this process has none. Killed at any instant and started again it reads
the files, tells everything once more (message ids make it once), and goes on. It never decides that a step may run.
Imports point one way: __main__ → wiring → teller → (keeping, source, log_pump) → courier; policy → reading.
"""
