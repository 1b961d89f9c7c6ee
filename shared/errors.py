"""Errors that tell the reader what to do next, and the edge how to treat them.

The class docstring is the message a person reads; `{fields}` are filled from the keyword arguments.
"""

from typing import Any


class OverspillError(Exception):
    """Something went wrong: {why}."""

    code: str = "internal"
    status: int = 500

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        template = " ".join((type(self).__doc__ or "").split())
        super().__init__(template.format(**fields))


class Rejected(OverspillError):
    """{why}"""

    # The caller's doing. Telling it again changes nothing; never retried, answered with `status`.
    code = "rejected"
    status = 422


class Unavailable(OverspillError):
    """{what} can't be reached right now ({why}); nothing was lost, try again."""

    # A dependency's doing. Retried with delay.
    code = "unavailable"
    status = 503


class StreamFull(Unavailable):
    """{what} takes nothing more right now ({why}); nothing was lost, free space or try again."""

    code = "stream_full"


class OutcomeUnknown(Unavailable):
    """{what} did not confirm ({why}); it may or may not have happened: read it back before trying again."""

    code = "outcome_unknown"


class WrongSequence(OverspillError):
    """{subject} was changed by somebody else meanwhile (expected {expected})."""

    # A compare-and-set that lost. The loser reads again and decides anew.
    code = "conflict"
    status = 409


class Poison(OverspillError):
    """This message can't be understood: {why}."""

    # Buried in the DLQ with why; never retried.
    code = "poison"
    status = 400


class NotFound(Rejected):
    """There is no {what} {name}."""

    code = "not_found"
    status = 404


class AlreadyExists(Rejected):
    """{what} {name} exists with other content; use another name."""

    code = "already_exists"
    status = 409


class Unauthenticated(Rejected):
    """{why}"""

    code = "unauthenticated"
    status = 401


class Forbidden(Rejected):
    """{why}"""

    code = "forbidden"
    status = 403
