"""The command line, the client, and `overspill up`."""

from shared.version import VERSION as __version__

__all__ = ["__version__"]
