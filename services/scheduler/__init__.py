"""Moves every job from queued to its end.

Law of this room: facts go in, effects come out, and what decides is pure (`state`, `policy`, `placing`, `verdict`: no
clock, no bus, no asyncio). Effects are derived again from the state until the state shows that they happened; only the
leader performs them.
"""
