"""The status as the API shows it. Durations seconds, CPU core-seconds, memory byte-seconds."""

from typing import Literal

from pydantic import Field

from services.gateway.views import View


class ServiceView(View):
    service: str = Field(examples=["scheduler"])
    answers: bool
    version: str | None = None
    since: str | None = None
    complaints: list[str] = Field(default_factory=list)


class MachinesView(View):
    """Of the clusters that serve the caller's tenant; all of them for an operator."""

    ready: int
    draining: int
    lost: list[str] = Field(description="cluster/machine")


class QueueView(View):
    waiting: int
    oldest_wait_seconds: float | None = None
    running: int


class DeadLettersView(View):
    """Messages that could not be handled; each says why."""

    count: int
    newest: dict[str, str] = Field(description="time of the newest, by the service that buried it")


class StabilityView(View):
    """Jobs that were accepted in the window."""

    accepted: int
    started_in_time: int
    started_late: int = Field(description="or not started though it is late already")
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    our_errors: int = Field(description="ended by the platform's own error")
    retried_attempts: int
    start_target_seconds: float
    share: float | None = Field(description="of the promises that are decided, the kept ones; null: none is decided")


class SpeedView(View):
    """The platform's own time in jobs of the window that are over."""

    jobs: int
    p50_seconds: float | None
    p99_seconds: float | None
    mean_seconds_by_part: dict[str, float] = Field(description="queue, start, hand-over, log flush, verdict")


class AmountView(View):
    allocatable: float | None = Field(description="null: only operators see what there is for all")
    requested: float
    idle: float | None


class PoolView(View):
    cluster: str
    pool: str
    core_seconds: AmountView
    memory_byte_seconds: AmountView


class FiguresView(View):
    stability: StabilityView
    speed: SpeedView
    cost: list[PoolView]
    refusals: dict[str, int] = Field(description="how often a door said no, by why")


class StatusView(View):
    healthy: bool
    wrong: list[str] = Field(description="a line for everything that is not as it should be, with its remedy")
    scope: Literal["platform", "tenant"]
    tenant: str
    at: str
    services: list[ServiceView]
    machines: MachinesView | None = Field(description="null: nobody can say without the bus")
    queue: QueueView
    dead_letters: DeadLettersView | None = Field(description="null: only operators see them")
    figures: dict[Literal["hour", "day", "week"], FiguresView]
