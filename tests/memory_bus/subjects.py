"""Filters and subject mappings as the server has them."""

import re

_PLACE = re.compile(r"\{\{(\w+)\(([\d,]+)\)\}\}")


def matches(pattern: str, subject: str) -> bool:
    return captured(pattern, subject) is not None


def captured(pattern: str, subject: str) -> list[str] | None:
    """What the wildcards stand for, None when it doesn't match."""
    wanted, given = pattern.split("."), subject.split(".")
    found: list[str] = []
    for index, token in enumerate(wanted):
        if token == ">":
            return [*found, ".".join(given[index:])] if len(given) > index else None
        if index >= len(given) or token not in ("*", given[index]):
            return None
        if token == "*":
            found.append(given[index])
    return found if len(wanted) == len(given) else None


def mapped(source: str, destination: str, subject: str) -> str | None:
    """`subject` under the mapping, None when it isn't concerned."""
    found = captured(source, subject)
    if found is None:
        return None

    def place(brace: re.Match[str]) -> str:
        numbers = [int(number) for number in brace[2].split(",")]
        if brace[1] == "wildcard":
            return found[numbers[0] - 1]
        count, *tokens = numbers
        return str(_fnv1a("".join(found[token - 1] for token in tokens)) % count)

    made = _PLACE.sub(place, destination)
    return made[:-1] + found[-1] if made.endswith(".>") else made


def _fnv1a(text: str) -> int:
    """32 bits, as nats-server picks partitions."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value
