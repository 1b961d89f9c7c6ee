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
RUSTUP_HOME = "RUSTUP_HOME"
"""Found through HOME by the shims that PATH leads to, where the variable does not say otherwise."""


def machine_environment(environ: Mapping[str, str], passed: Sequence[str], home: Path) -> dict[str, str]:
    """`home` is the agent's own. Sorted by name."""
    chosen = {**DEFAULTS, "TERM": "dumb"}
    for name, value in environ.items():
        if name.startswith("OVERSPILL") or "\0" in value:
            continue
        if _may_pass(name, (*OWN, *passed)):
            chosen[name] = value
    toolchains = None if RUSTUP_HOME in chosen else _rust_toolchains(chosen["PATH"], home)
    if toolchains is not None:
        chosen[RUSTUP_HOME] = str(toolchains)
    return dict(sorted(chosen.items()))


def _rust_toolchains(path: str, home: Path) -> Path | None:
    """In the agent's own home, else beside the shims: rustup keeps `.cargo/bin` and `.rustup` in one home."""
    shims = (Path(directory) for directory in path.split(":") if directory.endswith(".cargo/bin"))
    places = (home / ".rustup", *(directory.parents[1] / ".rustup" for directory in shims))
    # A shim that finds none makes an empty one where it looked.
    return next((place for place in places if any(place.glob("toolchains/*"))), None)


def _may_pass(name: str, patterns: Sequence[str]) -> bool:
    if name in patterns:
        return True
    if any(fnmatchcase(name.lower(), secret) for secret in SECRETS):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)
