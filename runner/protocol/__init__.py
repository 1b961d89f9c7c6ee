"""The attempt directory in Python: its names, how its files are read and written, and what an edge puts there.

Law of the room: `docs/runner-protocol.md`. Whoever reads here finds a file whole or not at all; whoever writes,
writes beside
and renames. Nothing here knows of a bus, of processes or of containers.
"""
