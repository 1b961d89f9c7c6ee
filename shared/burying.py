"""Where poison goes: DLQ, with why and where it came from. Each sender has room of its own there."""

import hashlib
from collections.abc import Mapping

from shared.bus import Bus, Message
from shared.flow import Buried
from shared.ids import is_token

WHY, SUBJECT, SIZE = "Overspill-Why", "Overspill-Subject", "Overspill-Size"
KEPT_BYTES = 65_536
"""Of a payload; how much it was is in header `Overspill-Size`."""
WHY_LIMIT_CHARACTERS = 1000
UNKNOWN = "unknown"
_SENDER_AT: Mapping[str, int] = {"logs": 2}
"""Which token of a subject names the tenant or cluster; the second one elsewhere."""


def sender_of(subject: str) -> str:
    """The tenant or cluster whose subject it is."""
    tokens = subject.split(".")
    at = _SENDER_AT.get(tokens[0], 1)
    return tokens[at] if len(tokens) > at and is_token(tokens[at]) else UNKNOWN


async def bury(bus: Bus, service: str, message: Message, why: str) -> None:
    """A stored message is buried once however often it is delivered; of one that is not, a repetition within two
    minutes is not buried again. Raises Unavailable.
    """
    headers = {
        WHY: " ".join(why.split()).encode("ascii", "backslashreplace").decode()[:WHY_LIMIT_CHARACTERS],
        SUBJECT: message.subject,
        SIZE: str(len(message.data)),
    }
    name = str(message.seq) if message.seq else hashlib.sha256(why.encode() + b"\0" + message.data).hexdigest()[:32]
    subject = Buried(service, sender_of(message.subject))
    await bus.publish(
        subject, message.data[:KEPT_BYTES], headers=headers, message_id=f"{service}-{message.subject}-{name}"
    )
