"""Settings of cluster-metrics: environment `OVERSPILL_CLUSTER_METRICS_…`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """When a machine counts as lost, and how often things are told."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_CLUSTER_METRICS_", extra="ignore")

    silent_beats: float = Field(default=5.0, ge=1.5, description="beats a machine may miss before it is lost")
    tell_every_seconds: float = Field(
        default=10.0,
        gt=0,
        description="a machine's picture is told again after this, a node's after its own longer beat",
    )
    coalesce_seconds: float = Field(
        default=1.0, gt=0, description="changes of attempts alone are told at most this often"
    )
    summary_seconds: float = Field(default=0.5, gt=0, description="a cluster's summary is told at most this often")
    forget_seconds: float = Field(default=3600.0, gt=0, description="gone or lost this long, a machine is forgotten")
    tick_seconds: float = Field(default=0.25, gt=0, description="all machines are looked at so often")
    count_seconds: int = Field(default=60, ge=1, description="capacity is told by stretches so long")
    max_machines: int = Field(default=10_000, ge=1, description="of all clusters; beats of more are buried")
