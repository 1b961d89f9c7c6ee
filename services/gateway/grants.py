"""Grants: an attempt's spec and credential, for the one machine its job is placed on."""

import asyncio
from collections.abc import Callable

import structlog

from services.gateway.refusals import NotPlacedHere
from services.gateway.tenants import Directory
from shared.bus import Bus, Headers, Message
from shared.crash_points import crash_point
from shared.errors import NotFound, OverspillError
from shared.facts import AttemptAccepted, AttemptEnded, JobRecord
from shared.flow import EVT, JOBS, Edge, Evt, Job, Spec
from shared.issuer import Issuer
from shared.job_spans import attempt_context
from shared.lifecycle import JobState
from shared.parties import attempt_party
from shared.pods import KUBE, PodTemplate
from shared.requests import Grant, GrantAsked, PodGrant
from shared.spec import JobSpec
from shared.tenancy import ClusterRecord, TenantRecord
from shared.wire import decode, encode

log = structlog.get_logger()

QUEUE = "gateway"


def check_placed(record: JobRecord | None, asked: GrantAsked, at: Edge, cluster: ClusterRecord | None) -> JobRecord:
    """The record, if exactly this attempt is placed on exactly this machine. Pure. Raises NotPlacedHere, which says
    the same whether the job is elsewhere, ended or unknown: a machine learns nothing of what isn't its own.
    """
    if (
        record is None
        or record.state is not JobState.PLACED
        or record.epoch != asked.epoch
        or record.placement is None
        or (record.placement.cluster, record.placement.target) != (at.cluster, at.machine)
        or cluster is None
        or not cluster.serves(asked.tenant)
    ):
        raise NotPlacedHere(epoch=asked.epoch, job=asked.job)
    return record


def check_claim(accepted: AttemptAccepted | None, asked: GrantAsked, *, ended: bool) -> None:
    """Whether the attempt is the asker's and not over, if that is in doubt. Pure. Raises NotPlacedHere."""
    if asked.claim is not None and (ended or accepted is None or accepted.claim != asked.claim):
        raise NotPlacedHere(epoch=asked.epoch, job=asked.job)


def pod_grant(record: JobRecord, cluster: ClusterRecord, tenant: TenantRecord | None) -> PodGrant | None:
    """What an attempt that is ordered as a pod gets beside. Pure. Raises NotPlacedHere for a tenant that is no more."""
    placement = record.placement
    if placement is None or placement.target != KUBE:
        return None
    if tenant is None:
        raise NotPlacedHere(epoch=record.epoch, job=record.job)
    pools = {pool.pool: pool.pod for pool in cluster.pools}
    return PodGrant(
        pool=placement.pool,
        namespace=record.namespace or tenant.default_namespace,
        template=pools.get(placement.pool, PodTemplate()),
        walls=tenant.walls,
    )


class Grants:
    """Answers `edge.<cluster>.<machine>.grant`. The subject is the server's word on who asks."""

    subject = Edge.filter(op="grant")

    def __init__(
        self,
        bus: Bus,
        directory: Directory,
        issuer: Issuer,
        margin_seconds: float,
        refused: Callable[[OverspillError], None],
    ) -> None:
        self._bus, self._directory, self._issuer, self._margin_seconds = bus, directory, issuer, margin_seconds
        self._refused = refused

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        try:
            return await self._answer(message)
        except NotPlacedHere as refusal:
            self._refused(refusal)
            raise

    async def _answer(self, message: Message) -> tuple[bytes, Headers]:
        at = Edge.parse(message.subject)
        asked = decode(GrantAsked, message.data)
        cluster = self._directory.clusters.get(at.cluster)
        # At once: an attempt's start waits for it.
        job, spec = await asyncio.gather(
            self._bus.last(JOBS, Job(asked.tenant, asked.job)), self._bus.last(JOBS, Spec(asked.tenant, asked.job))
        )
        record = check_placed(decode(JobRecord, job.data) if job else None, asked, at, cluster)
        if asked.claim is not None:
            about = asked.tenant, asked.job, asked.epoch
            found, ended = await asyncio.gather(
                self._bus.last(EVT, Evt(*about, AttemptAccepted.token())),
                self._bus.last(EVT, Evt(*about, AttemptEnded.token())),
            )
            check_claim(decode(AttemptAccepted, found.data) if found else None, asked, ended=ended is not None)
        if spec is None:
            raise NotFound(what="spec of job", name=asked.job)
        credential = self._issuer.credential(
            attempt_party(asked.tenant, asked.job, asked.epoch),
            tenant=asked.tenant,
            expires_seconds=record.timeout_seconds + self._margin_seconds,
        )
        pod = pod_grant(record, cluster, self._directory.tenants.get(asked.tenant)) if cluster else None
        crash_point("gateway.before-grant-answer")
        log.info("attempt_granted", tenant=asked.tenant, job=asked.job, epoch=asked.epoch, machine=at.machine)
        return encode(
            Grant(
                tenant=asked.tenant,
                job=asked.job,
                epoch=asked.epoch,
                spec=JobSpec.model_validate_json(spec.data),
                bus_urls=cluster.bus_urls if cluster else [],
                bus_jwt=credential.jwt,
                bus_seed=credential.seed,
                created_unix_ns=record.created_unix_ns,
                traceparent=attempt_context(record.traceparent, asked.job, asked.epoch),
                pod=pod,
            )
        ), {}
