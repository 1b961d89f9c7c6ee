"""Logs for people: the log-collector is asked for the truth, LOG's republished tail is only a hint that wakes.

The room's law: an offset is never shown twice nor left out; what comes live fits exactly behind what was shown, or the
truth is read again.
"""
