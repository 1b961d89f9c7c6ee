"""The job spec: what a person writes in build.yaml and a service sends on the bus."""

import hashlib
import re
import shlex
import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    field_validator,
    model_validator,
)

from shared.needs import DEFAULT_MACHINE_TYPE, MACHINE_TYPES, Needs
from shared.spec_words import ArtifactWhen, OnLost, StepIf

SPEC_LIMIT_BYTES = 262_144
MAX_STEPS = 200
STEP_NAME_CHARACTERS = 78

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TREE = re.compile(r"[0-9a-f]{64}")


def parse_cpu(value: Any) -> Any:
    """Thousandths of a core from 2, 0.5, "1500m"."""
    if isinstance(value, bool):
        raise ValueError("give cores (2, 0.5) or thousandths (1500m)")  # noqa: TRY004
    if isinstance(value, str):
        if match := re.fullmatch(r"(\d+)m", value):
            return int(match[1])
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise ValueError("give cores (2, 0.5) or thousandths (1500m)")
        value = float(value)
    return round(value * 1000) if isinstance(value, int | float) else value


def parse_bytes(value: Any) -> Any:
    """Bytes from 1073741824, "1Gi", "500M"."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGTk]i?)?", value)
        if match is None or (match[2] or "") not in _UNITS:
            raise ValueError("give bytes or a size such as 512Mi, 4Gi, 10G")
        return round(float(match[1]) * _UNITS[match[2] or ""])
    return value


def parse_duration(value: Any) -> Any:
    """Seconds from 90, "90s", "15m", "1h30m"."""
    if isinstance(value, str):
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", value):
            raise ValueError("give seconds or a duration such as 90s, 15m, 1h30m")
        return sum(
            float(number) * _DURATION_UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", value)
        )
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=7 * 86_400)]
Days = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=366 * 86_400)]


def _is_text(value: str) -> str:
    # Names are shown on other people's terminals: nothing in them may steer one.
    if any(unicodedata.category(character) in _STEERING for character in value.translate(_JOINERS)):
        raise ValueError("holds a control character; a name is plain text on one line")
    return value


_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's control, format (direction overrides), surrogate, line and paragraph separators."""
_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Format characters that scripts and emoji need inside a word."""

Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_text)]


def _env(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _scalar(item) for key, item in value.items()}
    return value


def _scalar(item: Any) -> Any:
    # YAML reads 3.10 or yes as it likes; only what is unmistakable becomes text.
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item) if isinstance(item, int) else item


Env = Annotated[dict[str, Annotated[str, Field(max_length=65_536)]], BeforeValidator(_env), Field(max_length=256)]


class SpecPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class MachineSize(SpecPart):
    """An own size instead of a named one."""

    cpu: Annotated[
        int,
        BeforeValidator(parse_cpu),
        PlainSerializer(lambda millis: f"{millis}m", return_type=str),
        Field(gt=0, le=256_000, description="cores, or thousandths as 1500m"),
    ]
    memory: Annotated[
        int, BeforeValidator(parse_bytes), Field(ge=2**20, le=4 * 2**40, description="bytes, or 512Mi, 4Gi")
    ]
    disk: Annotated[int, BeforeValidator(parse_bytes), Field(ge=0, le=64 * 2**40)] = 10 * 2**30


MachineType = Annotated[
    Annotated[str, Tag("named")] | Annotated[MachineSize, Tag("sized")],
    Discriminator(lambda value: "sized" if isinstance(value, dict | MachineSize) else "named"),
]


class TreeSource(SpecPart):
    """A tree that was uploaded before (`overspill run` does it)."""

    tree: str = Field(description="sha256 of the packed tree")

    @field_validator("tree")
    @classmethod
    def _is_hash(cls, value: str) -> str:
        if _TREE.fullmatch(value) is None:
            raise ValueError("is no tree; upload one with `overspill run`, or POST /v1/sources, and use its id")
        return value


class GitSource(SpecPart):
    """A commit of a git repository."""

    git: str = Field(min_length=1, max_length=2000, description="URL as git clone takes it")
    ref: str = Field(
        default="HEAD",
        min_length=1,
        max_length=300,
        pattern=r"^[^-\s][^\s]*$",
        description="branch, tag or full commit id",
    )
    depth: int = Field(default=1, ge=0, le=1_000_000, description="commits of history; 0 is all of it")
    submodules: bool = False

    @field_validator("git")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if re.match(r"(https?|ssh|git|file)://[^\s]+$|[\w.-]+@[\w.-]+:[^\s]+$", value) is None:
            raise ValueError("give a URL such as https://host/project.git or git@host:project.git")
        return value


def _source_kind(value: Any) -> str:
    """Which of the sources was meant, so that an error speaks of that one."""
    if isinstance(value, TreeSource) or (isinstance(value, dict) and "tree" in value):
        return "tree"
    return "git" if isinstance(value, GitSource | dict) else "none"


Source = Annotated[
    Annotated[Literal["none"], Tag("none")] | Annotated[TreeSource, Tag("tree")] | Annotated[GitSource, Tag("git")],
    Discriminator(_source_kind),
]


class Artifact(SpecPart):
    """Files of the workspace to keep after the job."""

    name: Name
    paths: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(min_length=1, max_length=64)
    when: ArtifactWhen = "success"
    expire: Days = 30 * 86_400.0

    @field_validator("paths")
    @classmethod
    def _inside(cls, value: list[str]) -> list[str]:
        for path in value:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"{path!r} leaves the workspace; give paths relative to it")
        return value


class Step(SpecPart):
    """One command, in an own process group (and container, when it names an image)."""

    name: Name | None = None
    image: str | None = Field(default=None, min_length=1, max_length=500)
    run: str | None = Field(default=None, min_length=1, max_length=131_072, description="a script for `shell`")
    command: list[str] | None = Field(default=None, min_length=1, max_length=1000, description="argv, run as it is")
    shell: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="sh -e", description="`sh -e`, `bash`, `python3`…: the script's path is appended"
    )
    env: Env = Field(default_factory=dict)
    working_directory: str | None = Field(default=None, alias="working-directory", max_length=1000)
    if_: StepIf = Field(default="success()", alias="if")
    timeout: Seconds | None = None
    continue_on_error: bool = Field(default=False, alias="continue-on-error")
    retry: int = Field(default=0, ge=0, le=10, description="further tries after a failure")
    background: bool = False
    ready: str | None = Field(
        default=None, min_length=1, max_length=8192, description="script that exits 0 once a background step answers"
    )

    @field_validator("env")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        return check_env(value)

    @field_validator("working_directory")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith("/") or ".." in value.split("/")):
            raise ValueError("leaves the workspace; give a path relative to it")
        if value is not None and any(character in value for character in "\0\n\r"):
            raise ValueError("holds a line break or a NUL byte; name one directory")
        return value

    @field_validator("shell")
    @classmethod
    def _is_a_command(cls, value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError:
            words = []
        if not words or "\0" in value:
            raise ValueError("is no command line; give a program and its options, as `bash -e`")
        return value

    @field_validator("run", "ready")
    @classmethod
    def _no_nul(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("holds a NUL byte; no shell can run it")
        return value

    @field_validator("command")
    @classmethod
    def _no_nuls(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and any("\0" in word for word in value):
            raise ValueError("holds a NUL byte; no program takes it")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.run is None) == (self.command is None):
            raise ValueError("give either `run` (a script) or `command` (a list of words)")
        if self.ready is not None and not self.background:
            raise ValueError("`ready` belongs to a step with `background: true`")
        if self.background and self.retry:
            raise ValueError("a background step can't have `retry`")
        return self


def check_env(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no environment name (letters, digits, _)")
        if name.startswith("OVERSPILL_"):
            raise ValueError(f"{name}: names beginning with OVERSPILL_ are the platform's")
        if "\0" in text:
            raise ValueError(f"{name} holds a NUL byte")
    return value


def _list_of(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class JobSpec(SpecPart):
    """A job: steps in one isolated place, one after the other."""

    name: Name = "build"
    runs_on: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], BeforeValidator(_list_of)] = Field(
        default_factory=list,
        alias="runs-on",
        max_length=16,
        description="a pool, a cluster, or labels that must all be there",
    )
    namespace: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    machine_type: MachineType = Field(default=DEFAULT_MACHINE_TYPE, alias="machineType")
    priority: int = Field(default=0, ge=-100, le=100, description="higher goes first within the tenant")
    timeout: Seconds = 3600.0
    on_lost: OnLost = Field(default="rerun", alias="on-lost")
    env: Env = Field(default_factory=dict)
    labels: dict[Annotated[str, Field(min_length=1, max_length=63)], Annotated[str, Field(max_length=100)]] = Field(
        default_factory=dict, max_length=16
    )
    source: Source = "none"
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS)
    artifacts: list[Artifact] = Field(default_factory=list, max_length=32)

    @field_validator("env")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        return check_env(value)

    @field_validator("machine_type")
    @classmethod
    def _known_size(cls, value: str | MachineSize) -> str | MachineSize:
        if isinstance(value, str) and value not in MACHINE_TYPES:
            raise ValueError(
                f"there is no machine type {value!r}; take one of {', '.join(MACHINE_TYPES)}, or {{cpu, memory, disk}}"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [artifact.name for artifact in self.artifacts]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two artifacts are named {name!r}; give each its own name")
        if all(step.background for step in self.steps):
            raise ValueError("every step is a background step; a job needs one that decides its end")
        return self

    @property
    def needs(self) -> Needs:
        if isinstance(self.machine_type, str):
            return MACHINE_TYPES[self.machine_type]
        size = self.machine_type
        return Needs(cpu_millis=size.cpu, memory_bytes=size.memory, disk_bytes=size.disk)

    @property
    def wants_containers(self) -> bool:
        return any(step.image is not None for step in self.steps)

    def step_names(self) -> list[str]:
        """Display names, from step 1 on: the given one, else the first line of what it runs."""
        return [step_name(step) for step in self.steps]

    def content_hash(self) -> str:
        """sha256 over the canonical form: equal for specs that mean the same."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """JSON by alias, defaults left out: what is stored and hashed."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def step_name(step: Step) -> str:
    if step.name is not None:
        return step.name
    text = step.run.strip().splitlines()[0] if step.run and step.run.strip() else " ".join(step.command or ["(empty)"])
    text = "".join(" " if unicodedata.category(character) in _STEERING else character for character in text)
    return text if len(text) <= STEP_NAME_CHARACTERS else text[: STEP_NAME_CHARACTERS - 1] + "…"
