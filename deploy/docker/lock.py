"""Parts of the locked requirements: an image gets what it imports, at the versions and hashes that everything has.

`python -m deploy.docker.lock IMAGE` prints what `pip install --no-deps --require-hashes -r` takes.
"""

import re
import sys
from collections.abc import Collection
from pathlib import Path

from deploy.docker.contents import CONTENTS

LOCK = Path(__file__).parents[2] / "requirements" / "run.txt"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class NotLocked(Exception):
    """A package that an image wants and the lock doesn't have; the message names it."""


def entries(text: str) -> dict[str, str]:
    """Each package's entry, by its name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        begins = _NAME.match(line)
        if begins is not None:
            name = begins.group()
            found[name] = line
        elif name and line.startswith(" ") and not line.lstrip().startswith("#"):
            found[name] += line
    return found


def select(text: str, only: Collection[str] | None, without: Collection[str] = ()) -> str:
    """`only` None: all. Raises NotLocked."""
    known = entries(text)
    missing = sorted({*(only or ()), *without} - set(known))
    if missing:
        raise NotLocked(f"{LOCK} has no {', '.join(missing)}: correct deploy/docker/contents.py")
    return "".join(known[name] for name in sorted(known) if (only is None or name in only) and name not in without)


if __name__ == "__main__":
    wanted = CONTENTS[sys.argv[1]]
    sys.stdout.write(select(LOCK.read_text(), wanted.wheels, wanted.without))
