"""`overspill run`: from a working tree to a verdict."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from overspill.client import Client, Json
from overspill.complaint import Complaint, Exit
from overspill.pack import Packed, pack, tree_root
from shared.ids import random_id
from shared.spec import JobSpec, TreeSource
from shared.spec_reading import admit_spec, read_spec

NAMES = ("build.yaml", "build.yml")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line changes in a spec."""

    name: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Build:
    file: Path
    root: Path
    """The tree that goes along."""
    spec: JobSpec


def find(given: Path | None, here: Path, wishes: Wishes) -> Build:
    """The build.yaml that is meant, checked. Looked for upwards, not beyond the git working tree. Raises Complaint,
    SpecRefused.
    """
    file = given if given is not None else _upwards(here)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Complaint(f"{file} can't be read: {error.strerror}", Exit.USAGE) from error
    return Build(file, tree_root(file.absolute().parent), wished(read_spec(text), wishes))


def _upwards(here: Path) -> Path:
    root = tree_root(here)
    for directory in (here, *here.parents):
        for name in NAMES:
            if (directory / name).is_file():
                return directory / name
        if directory == root:
            break
    raise Complaint(f"there is no {NAMES[0]} in {here} or above it: write one, or name a file", Exit.USAGE)


def wished(spec: JobSpec, wishes: Wishes) -> JobSpec:
    """Raises SpecRefused."""
    raw = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if wishes.name is not None:
        raw["name"] = wishes.name
    if wishes.env:
        raw["env"] = {**spec.env, **wishes.env}
    if wishes.labels:
        raw["labels"] = {**spec.labels, **wishes.labels}
    return admit_spec(raw)


async def with_source(client: Client, build: Build) -> tuple[JobSpec, Packed]:
    """The spec with the tree it builds, which is uploaded unless the server has it."""
    if build.spec.source != "none":
        raise Complaint(f"{build.file} names a `source` of its own; add --no-source to use that one", Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="overspill-") as directory:
        packed = pack(build.root, Path(directory) / "source.tar.gz")
        told = await client.source(packed.sha256, packed.size_bytes)
        if not told["exists"]:
            await client.upload(told["put"], packed.path, packed.size_bytes)
    return build.spec.model_copy(update={"source": TreeSource(tree=told["source"])}), packed


async def submit(client: Client, spec: JobSpec, key: str | None = None) -> Json:
    """One job, however often the request had to be sent; one job for a `key`, whoever sends it."""
    return await client.submit(spec.canonical(), "application/json", key or random_id())


def background_steps(spec: JobSpec) -> frozenset[int]:
    return frozenset(number for number, step in enumerate(spec.steps, 1) if step.background)
