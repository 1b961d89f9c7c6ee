"""Settings of the scheduler: environment `OVERSPILL_SCHEDULER_…`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.scheduler.model import Rules


class Settings(BaseSettings):
    """How long things may take."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_SCHEDULER_", extra="ignore")

    accept_seconds: float = Field(default=10.0, gt=0, description="a machine has this long to accept an order")
    retry_seconds: float = Field(
        default=2.0, ge=0, description="before an attempt that failed for our fault is tried anew"
    )
    fence_seconds: float = Field(default=30.0, gt=0, description="a fenced attempt is gone after this long alone")
    fence_margin_seconds: float = Field(default=10.0, ge=0, description="a fenced rerun waits this much longer")
    kill_grace_seconds: float = Field(default=10.0, ge=0, description="what steps get between SIGTERM and SIGKILL")
    confirm_seconds: float = Field(default=30.0, gt=0, description="to confirm an end beyond the steps' grace")
    missing_seconds: float = Field(
        default=60.0, gt=0, description="a machine may not know an accepted attempt this long"
    )
    queue_timeout_seconds: float = Field(default=86_400.0, gt=0, description="a job that never started ends after this")
    keep_seconds: float = Field(default=3600.0, ge=0, description="ended jobs stay in JOBS this long")
    explain_after_seconds: float = Field(default=2.0, ge=0, description="a shorter wait isn't recorded with its reason")
    starve_seconds: float = Field(default=60.0, gt=0, description="then a machine is held free for a job without room")
    half_life_seconds: float = Field(default=600.0, gt=0, description="of past usage in the fair share")
    suspect_seconds: float = Field(
        default=60.0, gt=0, description="nothing new goes to a machine unheard of for so long"
    )
    max_in_flight: int = Field(default=512, ge=1, description="effects performed at once")
    workers: int = Field(default=64, ge=1, description="tasks that perform effects")
    lease_seconds: float = Field(default=2.0, ge=1, le=60, description="the leader's right; 15 with replicated streams")
    forget_every_seconds: float = Field(
        default=600.0, gt=0, description="between looks for history and tombstones past their time"
    )
    forget_at_once: int = Field(default=8, ge=1, description="jobs that are removed at the same time")
    audit_seconds: float = Field(default=600.0, gt=0, description="the leader compares memory and streams this often")

    def rules(self) -> Rules:
        return Rules(
            **{name: getattr(self, name) for name in Rules.__dataclass_fields__ if name in type(self).model_fields}
        )
