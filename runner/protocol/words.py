"""The protocol's closed vocabularies."""

from typing import Literal

CancelWord = Literal["cancel", "timeout", "stale", "fenced", "lost"]
CANCEL_WORDS: tuple[CancelWord, ...] = ("cancel", "timeout", "stale", "fenced", "lost")
