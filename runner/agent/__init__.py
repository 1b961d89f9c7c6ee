"""The agent: serves one machine. It reconciles what the hub ordered with what is here, and holds no truth of its own.

Law of the room: decisions are in `policy` (pure); what runs is known from the attempt directories and /proc, so that
an agent
killed at any instant and started again goes on where it was. It never runs anything twice, and deletes an attempt
only when
step-ctl says that all of it is told.
Imports point one way: __main__ → wiring → agent → (claiming, attempts, …) → policy → model → runner.protocol, shared.
"""
