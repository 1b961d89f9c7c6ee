"""Heartbeats become each cluster's picture.

Law of this room: what a beat says counts only where its subject says the same. Silence is judged by our own clock, and
only while we could have heard something.
"""
