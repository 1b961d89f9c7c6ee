"""Settings that every process has: environment `OVERSPILL_…`; secrets come as files."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BusSettings(BaseSettings):
    """Where the bus is and as whom to speak."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_", extra="ignore")

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="comma-separated addresses of the bus")
    nats_creds_file: Path | None = Field(default=None, description="credential file (.creds) of this party")


class ObjectSettings(BaseSettings):
    """Where the object store is."""

    model_config = SettingsConfigDict(env_prefix="OVERSPILL_S3_", extra="ignore")

    url: str = Field(default="http://127.0.0.1:8333", description="address for services")
    public_url: str | None = Field(default=None, description="address for clients and runners; the same when absent")
    bucket: str = "overspill"
    region: str = "us-east-1"
    credentials_file: Path | None = Field(default=None, description="two lines: access key id, secret access key")
