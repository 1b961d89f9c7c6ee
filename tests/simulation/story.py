"""What happened, for people: numbered, timed lines, cut to what concerns one job."""

import hashlib
from collections.abc import Iterator

from tests.simulation.kernel import START, Kernel
from tests.simulation.world import History

LINES = 400


def lines(kernel: Kernel, about: object = None) -> Iterator[str]:
    """All of it, or only what concerns the job `about` and everybody."""
    for number, (at, who, key, text, values) in enumerate(kernel.story, start=1):
        if about is None or key is None or key == about:
            whose = "" if key is None else f"{key[1]}: "
            yield f"{number:5} {at - START:9.3f} s  {who:<22} {whose}{text % values if values else text}"


def fingerprint(kernel: Kernel) -> str:
    """Equal when two histories are the same."""
    return hashlib.sha256("\n".join(lines(kernel)).encode()).hexdigest()


def tell(history: History) -> str:
    """What a person needs to understand a failure, and to see it again."""
    broken, kernel = history.broken, history.kernel
    told = list(lines(kernel, broken.about if broken else None))
    head = [f"seed {history.seed}: {broken or 'every property holds'}"]
    if broken:
        head.append(f"again: make simulate SEEDS={history.seed}")
    if len(told) > LINES:
        head.append(f"… {len(told) - LINES} lines before …")
    return "\n".join([*head, *told[-LINES:], f"{'':5} {kernel.now - START:9.3f} s  {broken or 'the end'}"])
