"""The command line, the client, and `overspill up`."""

__version__ = "0.1.0"
