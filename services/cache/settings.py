"""Settings of the cache: environment `OVERSPILL_CACHE_…`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DAY = 86_400.0


class Settings(BaseSettings):
    """How long addresses and objects live."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_CACHE_", extra="ignore")

    url_seconds: int = Field(default=900, ge=10, le=3600, description="how long a presigned address can be used")
    source_keep_seconds: float = Field(
        default=14 * DAY, gt=0, description="an uploaded tree is kept this long after its last use"
    )
    sweep_every_seconds: float = Field(default=600.0, gt=0)
    log_sweep_every_seconds: float = Field(default=6 * 3600.0, gt=0)
    sweep_limit: int = Field(default=10_000, ge=1, description="objects looked at in one sweep of what is due")
