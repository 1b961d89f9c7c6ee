"""The servers `overspill up` brings along: nats-server and SeaweedFS, each the real one from its wheel.

The room's law: whatever is started here runs under a guard whose lifeline `up` holds, listens on 127.0.0.1 alone, and
asks for credentials that only this data directory knows.
"""
