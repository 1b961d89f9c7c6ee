"""The gateway's table of contents: what is made, what runs."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from starlette.types import Receive, Scope, Send

from services.gateway.admission import Admission, QueueDepth
from services.gateway.app import create_app
from services.gateway.auth.door import Door
from services.gateway.auth.tokens import Tokens
from services.gateway.cancelling import Cancelling
from services.gateway.deleting import Deleting
from services.gateway.desk import Desk
from services.gateway.enrolling import Enrolling
from services.gateway.figures.ledger import Ledger, keep
from services.gateway.figures.refusing import Refusing
from services.gateway.figures.status import Status
from services.gateway.grants import QUEUE, Grants
from services.gateway.log_reading.live import LiveLogs
from services.gateway.projection.feed import Feed
from services.gateway.projection.followers import Followers
from services.gateway.projection.reading import Reading
from services.gateway.projection.writing import Writer
from services.gateway.room import Room
from services.gateway.settings import Settings
from services.gateway.submissions import Submissions
from services.gateway.tenants import Directory
from services.gateway.walling import Walls
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.issuer import Issuer

log = structlog.get_logger()

STOP_SECONDS = 2
PROJECTION_FILE = "projection.sqlite"


class PortTaken(Unavailable):
    """{what} can't be listened on ({why}): give another with OVERSPILL_GATEWAY_PORT, 0 for a free one."""

    code = "port_taken"


def listening_socket(host: str, port: int) -> socket.socket:
    """Made before `serve`, it tells its port (0: a free one) to whoever starts the gateway. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, else asyncio leaves Nagle's algorithm on, and every answer is 40 ms late.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(1024)
    except OSError as error:
        made.close()
        raise PortTaken(what=f"{host}:{port}", why=error.strerror or str(error)) from error
    made.setblocking(False)
    return made


async def serve(
    settings: Settings,
    bus: Bus,
    issuer: Issuer,
    ready: asyncio.Event,
    *,
    sock: socket.socket | None = None,
    clock: Clock | None = None,
) -> None:
    """Runs until cancelled. `ready` is set once jobs can be taken and shown."""
    with contextlib.closing(sock or listening_socket(settings.host, settings.port)) as door:
        async with opened(settings, bus, issuer, clock or SystemClock()) as desk, asyncio.TaskGroup() as tasks:
            grants = Grants(bus, desk.directory, issuer, settings.grant_margin_seconds, desk.refusing.refused)
            submissions = Submissions(
                bus,
                desk.admission,
                desk.cancelling,
                desk.directory,
                desk.clock,
                settings.admissions_at_once,
                desk.refusing.refused,
            )
            tasks.create_task(desk.directory.tenants.run())
            tasks.create_task(desk.directory.clusters.run())
            tasks.create_task(desk.feed.run())
            tasks.create_task(desk.refusing.tell())
            tasks.create_task(keep(desk.ledger, bus))
            tasks.create_task(desk.room.run())
            tasks.create_task(_http(desk, door))
            # HTTP says meanwhile what it waits for; the bus has nobody to tell and just waits.
            await desk.directory.tenants.loaded.wait()
            await desk.directory.clusters.loaded.wait()
            walls = Walls(bus, desk.directory)
            async with (
                bus.serve(grants.subject, grants.answer, queue=QUEUE),
                bus.serve(walls.subject, walls.answer, queue=QUEUE),
            ):
                tasks.create_task(submissions.run())
                await desk.feed.caught_up.wait()
                ready.set()
                await asyncio.Event().wait()


@asynccontextmanager
async def opened(settings: Settings, bus: Bus, issuer: Issuer, clock: Clock) -> AsyncIterator[Desk]:
    """The desk with its projection open; nothing runs yet."""
    path = settings.data_dir / PROJECTION_FILE
    async with Writer(path) as writer:
        reading = Reading(path, settings.read_connections)
        try:
            directory = Directory(bus)
            ledger = Ledger()
            followers = Followers(
                settings.max_followers, settings.max_followers_of_tenant, settings.max_followers_of_job
            )
            room = Room(bus, settings.store_dir, settings.reserve_bytes)
            cancelling = Cancelling(bus, clock)
            feed = Feed(bus, writer, followers, directory, clock)
            yield Desk(
                settings=settings,
                bus=bus,
                clock=clock,
                directory=directory,
                door=Door(directory, Tokens.from_settings(settings), clock),
                admission=Admission(bus, directory, QueueDepth(reading.queued, clock), room, clock),
                cancelling=cancelling,
                enrolling=Enrolling(bus),
                issuer=issuer,
                deleting=Deleting(bus, cancelling, feed, clock),
                room=room,
                feed=feed,
                reading=reading,
                followers=followers,
                live=LiveLogs(bus),
                ledger=ledger,
                status=Status(bus, reading, directory, ledger, clock),
                refusing=Refusing(bus, clock, settings.tell_refusals_seconds),
            )
        finally:
            reading.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the process' (shared.run), not one service's: the hub has several.
        yield

    def cut(self) -> None:
        """Who does not read, or waits for what does not come, is waited for no longer."""
        for connection in tuple(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for task in tuple(self.server_state.tasks):
            task.cancel()


async def _http(desk: Desk, door: socket.socket) -> None:
    app = create_app(desk)

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not desk.followers.closing:
                raise
            log.info("request_cut", path=scope.get("path"))

    config = uvicorn.Config(
        ending,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws="none",
        date_header=False,
        timeout_graceful_shutdown=2 * STOP_SECONDS,
        h11_max_incomplete_event_size=32_768,
        limit_concurrency=desk.settings.max_followers + 1000,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[door]))
    host, port = door.getsockname()[:2]
    log.info("gateway_listening", host=host, port=port)
    try:
        await asyncio.shield(serving)
        raise Unavailable(what="the HTTP server", why="it ended by itself")
    finally:
        desk.followers.close()
        server.should_exit = True
        cutting = asyncio.get_running_loop().call_later(STOP_SECONDS, server.cut)
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        cutting.cancel()
