"""The machine's part of a step's environment: an allow-list, and the homes of toolchains that a fresh HOME would
hide.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

OWN = ("PATH", "LANG", "LC_*", "TZ", "USER", "LOGNAME", "SHELL")
SECRETS = ("*token*", "*password*", "*passwd*", "*secret*", "*_auth", "*credential*")
"""Never passed by a wildcard; only when the operator names them as they are."""
DEFAULTS = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "SHELL": "/bin/sh",
}
TOOLCHAIN_HOMES = {"RUSTUP_HOME": ".rustup"}
"""Found through HOME by shims that PATH leads to, where no variable says otherwise."""


def machine_environment(environ: Mapping[str, str], passed: Sequence[str], home: Path) -> dict[str, str]:
    """`home` is the agent's own. Sorted by name."""
    chosen = {**DEFAULTS, "TERM": "dumb"}
    for name, value in environ.items():
        if name.startswith("OVERSPILL") or "\0" in value:
            continue
        if _may_pass(name, (*OWN, *passed)):
            chosen[name] = value
    for name, directory in TOOLCHAIN_HOMES.items():
        if name not in chosen and (home / directory).is_dir():
            chosen[name] = str(home / directory)
    return dict(sorted(chosen.items()))


def _may_pass(name: str, patterns: Sequence[str]) -> bool:
    if name in patterns:
        return True
    if any(fnmatchcase(name.lower(), secret) for secret in SECRETS):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)
