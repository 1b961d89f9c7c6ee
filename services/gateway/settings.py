"""Settings of the gateway: environment `OVERSPILL_GATEWAY_…`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.facts.forgetting import CREDENTIAL_MARGIN_SECONDS


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OVERSPILL_GATEWAY_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0: a free one, told in the log and by the socket")
    allowed_hosts: list[str] = Field(
        default=["127.0.0.1", "localhost", "[::1]"],
        description="host names, without port, that the server answers for; `*` switches the check off",
    )
    allowed_origins: list[str] = Field(
        default=[], description="origins (https://ui.example.org) whose web pages may call the API"
    )
    data_dir: Path = Field(default=Path("overspill-gateway"), description="holds the projection; may be deleted")
    identity_dir: Path = Field(default=Path("identity"), description="keys that sign attempts' bus credentials")
    store_dir: Path | None = Field(
        default=None, description="where the bus stores, if on this machine: its free space is watched"
    )
    reserve_bytes: int = Field(
        default=256 * 2**20, ge=0, description="free space there that is kept for what runs: below it no job is taken"
    )
    jwt_keys_file: Path | None = Field(default=None, description="JWKS of the keys that sign accepted JWTs")
    jwt_issuer: str | None = Field(default=None, description="required `iss` of JWTs")
    jwt_audience: str = Field(default="overspill", description="required `aud` of JWTs")
    max_body_bytes: int = Field(default=393_216, ge=1024, description="of any request body")
    max_followers: int = Field(default=2000, ge=1, description="open event and log streams")
    max_followers_of_tenant: int = Field(default=500, ge=1)
    max_followers_of_job: int = Field(default=200, ge=1)
    read_connections: int = Field(default=4, ge=1, le=64, description="of the projection")
    admissions_at_once: int = Field(default=64, ge=1, description="of the bus door")
    grant_margin_seconds: float = Field(
        default=3600,
        ge=0,
        le=CREDENTIAL_MARGIN_SECONDS,
        description="life of an attempt's credential beyond the job's timeout",
    )
    tell_refusals_seconds: float = Field(default=10, gt=0, description="what was refused is counted and told so often")
    keep_alive_seconds: float = Field(default=15, gt=0, description="between comments on a silent event stream")
