"""Containers as frozen values: what is asked of a runtime, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one container, or of all of a group together."""

    cpu_millis: int
    memory_bytes: int
    pids: int


@dataclass(frozen=True, slots=True)
class Mount:
    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Containers that share a network, and so localhost, and one limit."""

    name: str
    owner: str
    """Whose it is: an agent takes away what is its own and of no attempt that it knows."""
    attempt: str
    network: str
    limits: Limits
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """One of a group's. It has no capability, gains no privilege, and sees of this machine its mounts alone."""

    name: str
    group: Group
    image: str
    command: tuple[str, ...]
    mounts: tuple[Mount, ...]
    errors: Path
    """What it complains of; a small file."""
    directory: str
    extra_group: int
    """Of users, beside what the image says."""
    own_command: bool = True
    """`command` replaces what the image would run; else it is its arguments."""
    apart: bool = False
    """Trusted: on the machine's network and not within the group's limit."""


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    """Of its process 1, on this machine."""
    id: str
    """Part of the name of its control group: tells its process from another that got its number."""


@dataclass(frozen=True, slots=True)
class Exited:
    code: int
    out_of_memory: bool = False
    """The kernel killed for memory in it. Whether that ended it, the code says."""
    words: str = ""
    """The last line it complained of, of one that failed."""
