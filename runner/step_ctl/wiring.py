"""One attempt's step-ctl, top to bottom."""

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from runner.protocol.attempt import NODE_VARIABLE, Attempt, read_attempt
from runner.protocol.directory import AttemptDir
from runner.step_ctl import pod
from runner.step_ctl.containers import Containers
from runner.step_ctl.courier import Courier
from runner.step_ctl.guardians import keep_deadline
from runner.step_ctl.masking import Mask
from runner.step_ctl.obeying import Obeying
from runner.step_ctl.teller import Beside, Teller
from shared.adapters.nats_bus import NatsBus
from shared.bus import Bus
from shared.crash_points import crash_point
from shared.credential import Credential
from shared.errors import OverspillError, Unavailable
from shared.parties import attempt_party
from shared.telemetry import continue_trace, exporting_is_set, is_sampled, telemetry

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5
COURTESY_SECONDS = 5.0
"""In a pod the controller may know why something is gone: out of memory, evicted, no image."""


class AlreadyTold(OverspillError):
    """Another step-ctl tells {directory}; it needs no second one."""

    code = "already_told"


async def serve(directory: Path) -> None:
    """Returns when all of the attempt is told and durable. Raises AlreadyTold, NoAttempt."""
    attempt_dir = AttemptDir(directory)
    with _sole_teller(attempt_dir):
        attempt = read_attempt(attempt_dir)
        crash_point("step-ctl.after-lock-before-bus")
        grant = attempt.grant
        async with _traced(grant.traceparent):
            deadline = asyncio.create_task(keep_deadline(attempt_dir, attempt))
            try:
                async with _connected(attempt) as bus:
                    await Teller(attempt_dir, attempt, Courier(bus, attempt), Mask()).run()
            finally:
                deadline.cancel()
                await asyncio.gather(deadline, return_exceptions=True)


async def serve_pod(root: Path, secret: Path) -> None:
    """As `serve`, in a pod: nobody stands beside it but the containers. Raises AlreadyTold, NoAttempt, Poison.

    SIGTERM, which ends every container of the pod, ends the telling only when all is told.
    """
    directory = AttemptDir(root)
    os.umask(pod.UMASK)
    attempt = pod.begin(directory, secret)
    with _sole_teller(directory):
        if directory.told.exists():
            return
        async with _traced(attempt.grant.traceparent), asyncio.TaskGroup() as tasks:
            containers = Containers(directory, tasks)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, containers.leave)
            deadline = tasks.create_task(keep_deadline(directory, attempt))
            async with _connected(attempt) as bus:
                courier = Courier(bus, attempt)
                obeying = Obeying(directory, attempt, bus, courier)
                hearing = tasks.create_task(obeying.run())
                node = os.environ.get(NODE_VARIABLE)
                beside = Beside(containers.saw, obeying.may_begin, node, COURTESY_SECONDS)
                await Teller(directory, attempt, courier, Mask(), beside).run()
                hearing.cancel()
            deadline.cancel()
            containers.close()


@asynccontextmanager
async def _traced(traceparent: str | None) -> AsyncIterator[None]:
    """What is told belongs to the attempt; the scheduler tells the attempt's own span, whatever becomes of us."""
    async with AsyncExitStack() as stack:
        if is_sampled(traceparent) and exporting_is_set(os.environ):
            from shared.telemetry_settings import TelemetrySettings

            await stack.enter_async_context(telemetry("step-ctl", TelemetrySettings(), metrics=False))
        stack.enter_context(continue_trace(traceparent))
        yield


@contextmanager
def _sole_teller(directory: AttemptDir) -> Iterator[None]:
    """Holds the lock by which an edge knows that this attempt has its step-ctl, also after the edge itself was
    restarted.
    """
    fd = os.open(directory.teller_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyTold(directory=directory.root) from None
    # Cut afterwards: on a full disk the place of the last pid is kept for this one.
    os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))
    try:
        yield
    finally:
        os.close(fd)


@asynccontextmanager
async def _connected(attempt: Attempt) -> AsyncIterator[Bus]:
    """The bus, however long it takes to be there: a build goes on without it."""
    grant = attempt.grant
    party = attempt_party(grant.tenant, grant.job, grant.epoch)
    credential = Credential(grant.bus_jwt, grant.bus_seed, party.name)
    while True:
        connection = NatsBus.connect(",".join(grant.bus_urls), credential, name=f"step-ctl-{grant.job[:8]}")
        try:
            bus = await connection.__aenter__()
        except Unavailable as error:
            log.info("bus_waits", job=grant.job, why=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)  # nothing tells of a server that is not connected to
            continue
        break
    try:
        yield bus
    finally:
        await connection.__aexit__(None, None, None)
