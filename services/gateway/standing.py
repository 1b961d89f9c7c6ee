"""What stands of a job on the bus, from the leader's copies."""

import asyncio

from services.gateway.refusals import JobDeleted
from shared.bus import Bus
from shared.facts import JobRecord
from shared.flow import DONE, JOBS, Done, Gone, Job
from shared.wire import decode


async def newest_record(bus: Bus, tenant: str, job: str) -> JobRecord | None:
    """From history when the live record was purged; None also for what was deleted."""
    try:
        return await standing(bus, tenant, job)
    except JobDeleted:
        return None


async def standing(bus: Bus, tenant: str, job: str) -> JobRecord | None:
    """The job this id stands for already. Raises JobDeleted."""
    live, done, gone = await asyncio.gather(
        bus.last(JOBS, Job(tenant, job)), bus.last(DONE, Done(tenant, job)), bus.last(DONE, Gone(tenant, job))
    )
    if gone is not None:
        raise JobDeleted(job=job)
    found = live or done
    return decode(JobRecord, found.data) if found else None
