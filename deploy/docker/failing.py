"""How building an image fails."""


class BuildFailed(Exception):
    """What could not be made; the message is the tool's own."""
