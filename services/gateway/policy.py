"""Admission: what becomes a job. Pure; time and ids are arguments. One rule for both doors."""

from services.gateway.model import Admitted, Submission
from services.gateway.refusals import LimitExceeded, TooManyQueued
from shared.facts import JobRecord
from shared.facts.job import RECORD_LIMIT_BYTES
from shared.images import image_token
from shared.lifecycle import JobState
from shared.needs import MACHINE_TYPES
from shared.spec import JobSpec
from shared.spec_reading import admit_spec
from shared.stream import Store
from shared.tenancy import TenantLimits, TenantRecord
from shared.wire import encode

GROWTH_BYTES = 1536
"""Of a record after admission: placement, past attempts, message, spans."""
ADMITTED_RECORD_LIMIT_BYTES = RECORD_LIMIT_BYTES - GROWTH_BYTES


def admit(submission: Submission, tenant: TenantRecord, now_unix_ns: int, write_id: str) -> Admitted:
    """The record to be written. Raises SpecRefused, LimitExceeded."""
    _check_size(submission.size_bytes, tenant.limits)
    spec = admit_spec(submission.raw)
    _check_limits(spec, tenant)
    needs = spec.needs
    record = JobRecord(
        tenant=tenant.tenant,
        job=submission.job,
        name=spec.name,
        state=JobState.QUEUED,
        created_unix_ns=now_unix_ns,
        content_hash=spec.content_hash(),
        runs_on=spec.runs_on,
        needs=needs,
        isolation="container" if spec.wants_containers else "process",
        namespace=spec.namespace,
        priority=spec.priority,
        timeout_seconds=spec.timeout,
        on_lost=spec.on_lost,
        labels=spec.labels,
        step_count=len(spec.steps),
        artifact_count=len(spec.artifacts),
        images=sorted({image_token(step.image) for step in spec.steps if step.image is not None})[:16],
        submitted_by=submission.principal.subject[:200],
        submitted_via=submission.via,
        traceparent=submission.traceparent,
        write_id=write_id,
    )
    encoded = encode(record)
    if len(encoded) > ADMITTED_RECORD_LIMIT_BYTES:
        raise LimitExceeded(
            why=f"name, labels and runs-on make a record of {len(encoded)} bytes, the limit is "
            f"{ADMITTED_RECORD_LIMIT_BYTES}: shorten labels and names"
        )
    spec_bytes = spec.canonical()
    _check_size(len(spec_bytes), tenant.limits)
    return Admitted(spec, spec_bytes, record, encoded)


def check_queue(tenant: TenantRecord, queued: int) -> None:
    """Raises TooManyQueued."""
    if queued >= tenant.limits.max_queued_jobs:
        raise TooManyQueued(tenant=tenant.tenant, queued=queued, limit=tenant.limits.max_queued_jobs)


STORE_UP_TO = 0.85
"""Of the bus' store: above it only what runs already may write, and the rest is for its facts, orders and records."""
LOG_UP_TO = 0.8
"""Of the logs' share: it fills only while the object store takes nothing."""


def why_no_room(store: Store | None, free_bytes: int | None, reserve_bytes: int) -> str | None:
    """Why no new job may come, naming the remedy; None while there is room. `free_bytes`: on the disk of the bus."""
    if free_bytes is not None and free_bytes < reserve_bytes:
        return (
            f"the disk of the bus has {_mib(free_bytes)} left, and {_mib(reserve_bytes)} are kept for running jobs: "
            "free some"
        )
    if store is None:
        return None
    if store.limit_bytes and store.used_bytes >= STORE_UP_TO * store.limit_bytes:
        return (
            f"the bus holds {_mib(store.used_bytes)} of the {_mib(store.limit_bytes)} it may store, and the rest is "
            "kept for running jobs: give it more, or let history expire sooner"
        )
    if store.log_limit_bytes and store.log_bytes >= LOG_UP_TO * store.log_limit_bytes:
        return (
            f"{_mib(store.log_bytes)} of logs wait for the object store, which takes nothing: see to its disk and its "
            "log"
        )
    return None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


def _check_size(size_bytes: int, limits: TenantLimits) -> None:
    if size_bytes > limits.max_spec_bytes:
        raise LimitExceeded(
            why=f"the spec has {size_bytes} bytes, the limit is {limits.max_spec_bytes}: "
            "move long scripts into the source"
        )


def _check_limits(spec: JobSpec, tenant: TenantRecord) -> None:
    limits = tenant.limits
    if spec.namespace is not None and spec.namespace not in tenant.namespaces:
        known = ", ".join(tenant.namespaces) or "none; leave `namespace` out"
        raise LimitExceeded(why=f"namespace {spec.namespace!r} is not one of {tenant.tenant}'s: it has {known}")
    if spec.priority > limits.max_priority:
        raise LimitExceeded(
            why=f"priority {spec.priority} is above {tenant.tenant}'s limit: take {limits.max_priority} or less"
        )
    if spec.timeout > limits.max_timeout_seconds:
        raise LimitExceeded(
            why=f"timeout of {spec.timeout:g} s is above {tenant.tenant}'s limit: "
            f"take {limits.max_timeout_seconds:g} s or less"
        )
    _check_machine(spec, tenant)


def _check_machine(spec: JobSpec, tenant: TenantRecord) -> None:
    limits = tenant.limits
    named = spec.machine_type if isinstance(spec.machine_type, str) else "custom"
    if limits.machine_types is not None and named not in limits.machine_types:
        usable = ", ".join(limits.machine_types) or "none"
        raise LimitExceeded(why=f"machineType {named!r} is not open to {tenant.tenant}: take one of {usable}")
    needs = spec.needs
    for what, wanted, limit in (
        ("cpu (thousandths)", needs.cpu_millis, limits.max_cpu_millis),
        ("memory (bytes)", needs.memory_bytes, limits.max_memory_bytes),
        ("disk (bytes)", needs.disk_bytes, limits.max_disk_bytes),
    ):
        if limit is not None and wanted > limit:
            fitting = ", ".join(name for name, size in MACHINE_TYPES.items() if _within(size.model_dump(), limits))
            raise LimitExceeded(
                why=f"machineType asks {what} {wanted}, {tenant.tenant}'s limit is {limit}: "
                f"take one of {fitting or 'none of the named sizes'}"
            )


def _within(size: dict[str, int], limits: TenantLimits) -> bool:
    return all(
        limit is None or size[what] <= limit
        for what, limit in (
            ("cpu_millis", limits.max_cpu_millis),
            ("memory_bytes", limits.max_memory_bytes),
            ("disk_bytes", limits.max_disk_bytes),
        )
    )
