"""What pytest-xdist gives to one worker whole: tests that share something costly to start.

By path, since pytest-xdist 3.8 doesn't see its own `xdist_group` mark under pytest 9.2.
"""

from xdist.scheduler import LoadScopeScheduling

FOLDERS = ("tests/kube/",)
"""A control plane of Kubernetes each session."""
FILES = ("tests/behaviour/", "tests/e2e/test_trace.py")
"""A platform each file."""


def group(nodeid: str) -> str:
    """The group that a test belongs to. Most are a group of their own."""
    for folder in FOLDERS:
        if nodeid.startswith(folder):
            return folder
    return nodeid.split("::", 1)[0] if nodeid.startswith(FILES) else nodeid


class Sharing(LoadScopeScheduling):
    """Load balancing by `group`, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
