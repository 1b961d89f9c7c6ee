"""Several filters of one reader, as one that covers them and a look at each message.

For a consumer with several filters the server goes through every subject of a block to find the next message: of a
stream with many subjects that is a millisecond a message, where one filter costs microseconds.
"""

from collections.abc import Callable


def covering(filters: tuple[str, ...]) -> str:
    """The narrowest single filter that matches whatever one of these matches. None of them: everything."""
    if not filters:
        return ">"
    first, *others = (each.split(".") for each in filters)
    covered = first
    for other in others:
        covered = _both(covered, other)
    return ".".join(covered)


def _both(one: list[str], other: list[str]) -> list[str]:
    covered: list[str] = []
    for mine, theirs in zip(one, other, strict=False):
        if ">" in (mine, theirs):
            return [*covered, ">"]
        covered.append(mine if mine == theirs else "*")
    if len(one) != len(other):
        # `>` stands for one token or more: what ends here has its last token covered too.
        return [*covered[: min(len(one), len(other)) - 1], ">"]
    return covered


def matcher(filters: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a subject matches one of these; all when there are none."""
    if not filters:
        return lambda _: True
    parts = [each.split(".") for each in filters]
    return lambda subject: any(_matches(each, subject.split(".")) for each in parts)


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    for at, part in enumerate(pattern):
        if part == ">":
            return len(tokens) > at
        if at == len(tokens) or part not in ("*", tokens[at]):
            return False
    return len(pattern) == len(tokens)
