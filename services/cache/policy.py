"""Who may have what, and what has expired. Pure: no I/O, the time is an argument."""

from dataclasses import dataclass

from services.cache.model import Marker, tenant_prefix
from shared.errors import Forbidden, NotFound
from shared.facts import JobRecord
from shared.lifecycle import JobState
from shared.spec import Artifact, JobSpec, TreeSource

_DOWNLOADABLE = frozenset({"sources", "artifacts", "logs"})


class NotCurrent(Forbidden):
    """attempt {epoch} of job {job} is not the current one; stop, nothing of it counts any more"""

    code = "stale_attempt"


class NotInSpec(Forbidden):
    """the job's spec names no {what}; only what it names can be had"""

    code = "not_in_spec"


class NotYours(NotFound):
    """There is no object {name} of this tenant."""


def check_current(record: JobRecord, epoch: int) -> None:
    """Raises NotCurrent unless this is the attempt that counts."""
    if record.state is not JobState.PLACED or record.epoch != epoch:
        raise NotCurrent(epoch=epoch, job=record.job)


def tree_of(spec: JobSpec) -> str:
    """The uploaded tree the spec names. Raises NotInSpec."""
    if not isinstance(spec.source, TreeSource):
        raise NotInSpec(what="uploaded source")
    return spec.source.tree


def artifacts_of(spec: JobSpec, names: list[str]) -> list[Artifact]:
    """The spec's artifacts of these names. Raises NotInSpec."""
    known = {artifact.name: artifact for artifact in spec.artifacts}
    for name in names:
        if name not in known:
            raise NotInSpec(what=f"artifact {name!r}")
    return [known[name] for name in dict.fromkeys(names)]


def check_own(tenant: str, key: str) -> None:
    """Raises NotYours unless `key` is a plain key of one of the tenant's own objects."""
    parts = key.split("/")
    plain = all(part not in ("", ".", "..") for part in parts)
    if not (plain and len(parts) > 3 and key.startswith(tenant_prefix(tenant)) and parts[2] in _DOWNLOADABLE):  # noqa: PLR2004
        raise NotYours(what="object", name=key[:200])


@dataclass(frozen=True, slots=True)
class Forget:
    """The object is gone already: only the marker remains to be removed."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Delete the object, then its marker."""


@dataclass(frozen=True, slots=True)
class Extend:
    """It was changed or used since: look again later."""

    marker: Marker


def judge(marker: Marker, changed_unix: float | None, used_unix: float | None, now: float) -> Forget | Expire | Extend:
    """What to do about a marker that is due. `changed_unix` None: the object isn't there."""
    if changed_unix is None:
        return Forget()
    since = max(changed_unix, used_unix or 0.0)
    if since + marker.keep_seconds > now:
        return Extend(Marker.after(marker.key, since, marker.keep_seconds))
    return Expire()


def log_has_expired(changed_unix: float, keep_seconds: float, now: float) -> bool:
    return changed_unix + keep_seconds <= now
