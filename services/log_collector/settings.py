"""Settings of the log collector: environment `OVERSPILL_LOG_COLLECTOR_…`."""

import platform

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.ids import Token, token_from

MIB = 2**20


class Settings(BaseSettings):
    """How chunks become parts."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_LOG_COLLECTOR_", extra="ignore")

    instance: Token = Field(
        default_factory=lambda: token_from(platform.node() or "one"),
        description="this collector among its like; the same again after a restart, so that it goes on at once",
    )
    part_bytes: int = Field(
        default=4 * MIB, ge=65_536, le=64 * MIB, description="a part is stored when it has this much"
    )
    part_age_seconds: float = Field(default=5.0, gt=0, description="or when its first byte has waited this long")
    grow_bytes: int = Field(
        default=256 * 1024, ge=0, description="a stored part below this is replaced by a longer one"
    )
    hole_seconds: float = Field(default=30.0, gt=0, description="bytes missing this long are given up")
    memory_bytes: int = Field(
        default=64 * MIB, ge=MIB, description="all that waits to be stored; beyond it reading stops"
    )
    concurrent_writes: int = Field(default=8, ge=1, le=64)
    checkpoint_seconds: float = Field(default=2.0, gt=0, description="how much is read twice after a crash")
    member_ttl_seconds: float = Field(
        default=6.0, ge=2, description="a collector silent this long has lost its partitions"
    )
    leave_seconds: float = Field(default=5.0, gt=0, description="how long its orderly end may take")
    idle_seconds: float = Field(default=600.0, gt=0, description="a log that says nothing this long leaves the memory")
