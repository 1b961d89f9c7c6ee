"""The protocol's closed vocabularies."""

from typing import Literal

CancelWord = Literal["cancel", "timeout", "stale", "fenced"]
CANCEL_WORDS: tuple[CancelWord, ...] = ("cancel", "timeout", "stale", "fenced")
