"""How every process runs: logging of facts, uvloop, signals that cancel, errors that end it with a line that helps."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TextIO, cast

import orjson
import structlog

from shared.errors import OverspillError
from shared.telemetry import exporting_is_set, telemetry

EXIT_PLATFORM_ERROR = 3


class _Unfailing:
    """A stream for logs: what can't be written, on a full disk, is lost and ends no service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging(service: str, level: int = logging.INFO) -> None:
    """JSON lines on stderr: one fact a line, with the service's name."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def first_error(error: BaseException) -> BaseException:
    """What really went wrong inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run `main`; SIGTERM or SIGINT cancel it once. Its own end is returned or raised."""
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_service(service: str, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """The process' exit code: 0 after a signal, 3 with one line on stderr when the platform failed it."""
    configure_logging(service)
    log = structlog.get_logger()
    try:
        _run(until_signalled(_traced(service, main)))
    except (OverspillError, BaseExceptionGroup) as error:
        cause = first_error(error)
        if not isinstance(cause, OverspillError):
            raise
        log.error("service_failed", error=str(cause))  # noqa: TRY400 - the line is for a person, the cause is ours
        return EXIT_PLATFORM_ERROR
    return 0


async def _traced(service: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if not exporting_is_set(os.environ):
        await main()
        return
    from shared.telemetry_settings import TelemetrySettings

    async with telemetry(service, TelemetrySettings()):
        await main()


def _run(main: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
