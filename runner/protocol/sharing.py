"""Where artifacts are looked for: what a step of another user makes there, step-ctl has to be able to read. Pure."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from shared.spec import JobSpec

MOST = 16
"""Paths that an entrypoint takes; where there are more, it is all of the workspace."""
_WILD = frozenset("*?[\n\r\0")


def shared_paths(spec: JobSpec, workspace: str) -> list[str]:
    """Below `workspace`, none of them in another."""
    found = {PurePosixPath(workspace, *_plain(pattern)) for artifact in spec.artifacts for pattern in artifact.paths}
    paths = sorted(path for path in found if found.isdisjoint(path.parents))
    return [str(path) for path in paths] if len(paths) <= MOST else [workspace]


def _plain(pattern: str) -> Iterable[str]:
    """The parts at its head that mean themselves."""
    for part in pattern.split("/"):
        if not _WILD.isdisjoint(part):
            return
        if part not in ("", "."):
            yield part
