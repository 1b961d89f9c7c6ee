"""What comes into the workspace and what is kept of it, through a real object store; logs byte for byte."""

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.adapters.s3_objects import S3Objects
from shared.flow import Ask
from shared.requests import Presigned, UrlsAsked, UrlsTold
from shared.settings import ObjectSettings
from tests.integration.runner.hub import AgentProcess, Hub

Agents = Callable[..., AgentProcess]


@pytest.fixture
async def objects(object_store: ObjectSettings, hub: Hub) -> AsyncIterator[S3Objects]:
    """The object store, with the hub giving addresses in it."""
    async with S3Objects.connect(object_store) as objects:
        await objects.ensure_bucket()

        async def urls(about: Ask, asked: UrlsAsked) -> UrlsTold:
            tree = getattr(hub.specs[about.job].source, "tree", None)
            source = None
            if asked.source and tree:
                key = f"sources/{tree}"
                url = await objects.presign("GET", key, expires_seconds=60)
                source = Presigned(method="GET", url=url, key=key, expires_unix=2**31)
            artifacts = {}
            for name in asked.artifacts:
                key = f"artifacts/{about.job}/{about.epoch}/{hashlib.sha256(name.encode()).hexdigest()[:12]}"
                url = await objects.presign("PUT", key, expires_seconds=60)
                artifacts[name] = Presigned(method="PUT", url=url, key=key, expires_unix=2**31)
            return UrlsTold(source=source, artifacts=artifacts)

        hub.urls = urls
        yield objects


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


async def test_a_tree_is_fetched_before_the_first_step(hub: Hub, objects: S3Objects, agents: Agents) -> None:
    agent = agents()
    data = packed({"src/a.txt": b"from the tree\n"})
    tree = hashlib.sha256(data).hexdigest()
    await objects.put(f"sources/{tree}", data)
    order = await hub.order({"source": {"tree": tree}, "steps": [{"run": "cat src/a.txt"}]}, agent.machine)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", (ended, agent.complaints())
    assert (await hub.log(order.job, 1)).data == b"from the tree\n"
    assert b"Source: 1 files" in (await hub.log(order.job, 0)).data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packed({"../outside": b"x"}), "outside"),
        (b"no archive at all", "can't be unpacked"),
    ],
)
async def test_a_tree_that_is_none_fails_the_job_with_why(
    data: bytes, why: str, hub: Hub, objects: S3Objects, agents: Agents
) -> None:
    agent = agents()
    tree = hashlib.sha256(data).hexdigest()
    await objects.put(f"sources/{tree}", data)
    order = await hub.order({"source": {"tree": tree}, "steps": [{"run": "echo never"}]}, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("failed", "source_unavailable"), ended
    assert why in ended.message
    assert (await hub.until(order.job, "step-ended", 1))["state"] == "skipped"
    assert not (agent.data / "attempts" / "outside").exists()


def repository(path: Path) -> str:
    path.mkdir()
    home = {"HOME": str(path), "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"]}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (
        ["init", "-q", "-b", "main"],
        [*identity, "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *words], cwd=path, env=home, check=True)
    (path / "file.txt").write_text("from git\n")
    subprocess.run(["git", "add", "file.txt"], cwd=path, env=home, check=True)
    subprocess.run(["git", *identity, "commit", "-q", "-m", "second"], cwd=path, env=home, check=True)
    return f"file://{path}"


async def test_a_git_commit_is_fetched(hub: Hub, tmp_path: Path, agents: Agents) -> None:
    agent = agents()
    url = repository(tmp_path / "repository")
    spec = {"source": {"git": url, "ref": "main"}, "steps": [{"run": "cat file.txt; git log --oneline | wc -l"}]}
    order = await hub.order(spec, agent.machine)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", (ended, (await hub.log(order.job, 0)).data)
    assert (await hub.log(order.job, 1)).data == b"from git\n1\n"


async def test_a_wrong_git_ref_fails_the_job_with_gits_own_words(hub: Hub, tmp_path: Path, agents: Agents) -> None:
    agent = agents()
    url = repository(tmp_path / "repository")
    order = await hub.order({"source": {"git": url, "ref": "no-such"}, "steps": [{"run": "true"}]}, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("failed", "source_unavailable")
    assert "no-such" in ended.message


async def test_artifacts_are_stored_as_their_condition_says(hub: Hub, objects: S3Objects, agents: Agents) -> None:
    agent = agents()
    spec = {
        "steps": [
            {"run": "mkdir -p dist/sub; echo wheel > dist/a.whl; echo deep > dist/sub/b.txt; ln -s /etc/passwd dist/p"}
        ],
        "artifacts": [
            {"name": "wheels ✓", "paths": ["dist"]},
            {"name": "report", "paths": ["dist/*.whl"], "when": "failure"},
            {"name": "log", "paths": ["**/*.txt"], "when": "always"},
        ],
    }
    order = await hub.order(spec, agent.machine)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", (ended, (await hub.log(order.job, 0)).data, agent.complaints())
    stored = {fact["name"]: fact for kind, fact in await hub.facts(order.job) if kind == "artifact-stored"}
    assert set(stored) == {"wheels ✓", "log"}
    data = await objects.get(stored["wheels ✓"]["key"])
    assert hashlib.sha256(data).hexdigest() == stored["wheels ✓"]["sha256"]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["dist/a.whl", "dist/sub/b.txt"]
    assert b"dist/p leads out of the workspace" in (await hub.log(order.job, 0)).data


async def test_an_artifact_that_matches_nothing_fails_the_job(hub: Hub, objects: S3Objects, agents: Agents) -> None:
    agent = agents()
    spec = {"steps": [{"run": "true"}], "artifacts": [{"name": "wheel", "paths": ["dist/*.whl"]}]}
    order = await hub.order(spec, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.exit_code) == ("failed", "artifact_missing", 0)
    assert "dist/*.whl" in ended.message


async def test_a_log_arrives_byte_for_byte(hub: Hub, agents: Agents) -> None:
    agent = agents()
    script = (
        "import os,sys,hashlib\n"
        "data = os.urandom(3_000_000) + b'\\0\\xff\\r' + b'x' * 2_000_000\n"
        "sys.stdout.buffer.write(data)\n"
        "open(os.environ['OVERSPILL_OUTPUT'], 'w').write('sha=' + hashlib.sha256(data).hexdigest())\n"
    )
    order = await hub.order({"steps": [{"shell": "python3", "run": script}]}, agent.machine)
    assert (await hub.ended(order)).outcome == "succeeded"
    log = await hub.log(order.job, 1)
    assert log.complete
    assert hashlib.sha256(log.data).hexdigest() == (await hub.until(order.job, "step-ended"))["outputs"]["sha"]
