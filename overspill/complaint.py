"""What ends a command: one line for a person, and the exit code."""

from enum import IntEnum


class Exit(IntEnum):
    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    PLATFORM = 3
    TIMED_OUT = 124
    CANCELLED = 130


BY_STATE = {
    "succeeded": Exit.SUCCEEDED,
    "failed": Exit.FAILED,
    "cancelled": Exit.CANCELLED,
    "timed_out": Exit.TIMED_OUT,
    "error": Exit.PLATFORM,
}


class Complaint(Exception):
    """The command can't go on. The message is one line that names the remedy."""

    def __init__(self, message: str, code: Exit = Exit.PLATFORM) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


class Unreachable(Complaint):
    """The server does not answer now; asking again may help."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        """`retry_after_seconds`: how long the server wants to be left in peace, as far as it said."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NoSuch(Complaint):
    """The server has no such thing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.USAGE)
