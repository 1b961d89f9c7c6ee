"""`python -m tests.simulation SEED` replays one history and tells it.

`FIRST-LAST` runs many and tells those that break; `fingerprint FIRST-LAST` prints what is equal for equal histories.
"""

import sys
import time

from tests.simulation.many import run_many
from tests.simulation.story import fingerprint, tell
from tests.simulation.world import run


def main(words: list[str]) -> int:
    match words:
        case ["fingerprint", seeds]:
            for seed in _range(seeds):
                print(seed, fingerprint(run(seed).kernel))  # noqa: T201
            return 0
        case [seeds] if "-" in seeds:
            return _many(_range(seeds))
        case [seed] if seed.isdecimal():
            history = run(int(seed))
            print(tell(history))  # noqa: T201
            return int(history.broken is not None)
        case _:
            print(__doc__)  # noqa: T201
            return 2


def _range(seeds: str) -> range:
    first, last = seeds.split("-")
    return range(int(first), int(last) + 1)


def _many(seeds: range) -> int:
    began, broken = time.monotonic(), 0
    for history in run_many(seeds):
        broken += 1
        print(tell(history), flush=True)  # noqa: T201
    print(f"{len(seeds)} histories in {time.monotonic() - began:.1f} s, {broken} broken")  # noqa: T201
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
