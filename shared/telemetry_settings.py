"""What OpenTelemetry is set to by the environment. Apart from `shared.telemetry`, which a runner imports to start."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TelemetrySettings(BaseSettings):
    """The names are OpenTelemetry's own."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", extra="ignore")

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="OTLP over HTTP, for traces and metrics; nothing is exported when absent"
    )
    exporter_otlp_traces_endpoint: str | None = Field(default=None, description="whole address, for traces alone")
    exporter_otlp_metrics_endpoint: str | None = Field(default=None, description="whole address, for metrics alone")
    traces_sampler_arg: float = Field(
        default=1.0, ge=0, le=1, description="share of traces that begin here and are exported"
    )
    metric_export_interval: int = Field(default=15_000, ge=100, description="milliseconds between two exports")

    @property
    def traces_address(self) -> str | None:
        return self.exporter_otlp_traces_endpoint or self._below("/v1/traces")

    @property
    def metrics_address(self) -> str | None:
        return self.exporter_otlp_metrics_endpoint or self._below("/v1/metrics")

    def _below(self, path: str) -> str | None:
        return self.exporter_otlp_endpoint.rstrip("/") + path if self.exporter_otlp_endpoint else None
