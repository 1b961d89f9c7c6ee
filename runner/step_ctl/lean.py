"""What a step-ctl does without, so that it starts soon: in a pod its own start is on the way to the verdict.

The libraries that it needs import others which it does not: to colour tracebacks, for websockets, for JetStream's
administration, to look for plugins. Together with models built when first used and modules imported by who needs them
it is half of what an import of step-ctl cost: 0.26 s of a busy core instead of 0.49 s.
"""

import os
import sys
from enum import StrEnum
from importlib import import_module
from types import ModuleType


class _Header(StrEnum):
    """Of `nats.js.api`, which makes fifty dataclasses: what `nats.aio.client` reads of it."""

    STATUS = "Status"
    DESCRIPTION = "Description"
    CONSUMER_STALLED = "Nats-Consumer-Stalled"


def leave_out() -> None:
    """Before anything else is imported."""
    for name in ("aiohttp", "rich", "colorama", "fast_mail_parser"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # an import of it raises ImportError, as if absent
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "nats" not in sys.modules:
        jetstream, api = ModuleType("nats.js"), ModuleType("nats.js.api")
        vars(api)["Header"] = _Header
        vars(jetstream)["api"] = api
        sys.modules |= {"nats.js": jetstream, "nats.js.api": api}
        # The client finds it by its parent, which only an import that loads it would tell.
        vars(import_module("nats"))["js"] = jetstream
