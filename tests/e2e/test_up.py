"""`overspill up` from its first start to its last process."""

import asyncio
import concurrent.futures
import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from overspill.embedded import object_store as embedded_store
from tests.conftest import guarded, wait_for
from tests.e2e.platform import OVERSPILL, Platform, clean_environment

END_SECONDS = 60


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Platform]:
    """A platform of the test's own, to be killed."""
    platform = Platform(tmp_path, tmp_path / "data")
    platform.start()
    yield platform
    if platform.process is not None and platform.process.poll() is None:
        platform.process.kill()
        platform.process.communicate()
    wait_until_nothing_runs(platform.data)


def wait_until_nothing_runs(data: Path) -> None:
    """Everything `up` starts holds its lock; the kernel gives it to us when the last of it is gone."""

    def take() -> None:
        with (data / "lock").open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(take).result(END_SECONDS)


def processes_of(data: Path) -> list[str]:
    """The command lines of all that names the data directory in its arguments, environment or working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            told += str((process / "cwd").readlink()).encode()
            if str(data).encode() in told and (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def pid_of(data: Path, word: str) -> int:
    """The process below the guard whose arguments begin with or name `word`."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes()
            named = any(word.encode() in argument for argument in arguments) and b"--lifeline" not in arguments
            if named and str(data).encode() in environment + b" ".join(arguments):
                return int(process.name)
    raise AssertionError(f"no {word} runs for {data}")


def until_it_answers(platform: Platform) -> None:
    """A client that can't connect says so at once; here the test waits for the hub that was killed."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{platform.ready['url']}/readyz").is_success:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submit_and_wait_for_line(platform: Platform, spec: str) -> str:
    """The job's id, once its step has printed `begun`."""
    tree = platform.spec(spec)
    job = str(platform.run("submit", "--json", str(tree / "build.yaml")).json()["id"])
    following = platform.popen("logs", "-f", job)
    assert following.stdout is not None
    assert "begun" in following.stdout.readline()
    following.kill()
    following.communicate()
    return job


def test_secrets_are_readable_by_their_owner_alone(platform: Platform) -> None:
    data = platform.data
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    secrets = [
        data / "token",
        data / "server.json",
        data / "agent.creds",
        data / "service.creds",
        data / "objects" / "credentials",
    ]
    secrets += [data / "objects" / "security.toml", *(data / "identity").rglob("*.seed"), *(data / "logs").iterdir()]
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_server_json_says_where_the_platform_is(platform: Platform) -> None:
    told = json.loads((platform.data / "server.json").read_text())
    assert told["url"] == platform.ready["url"]
    assert platform.process is not None
    assert told["pid"] == platform.process.pid
    assert httpx.get(f"{told['url']}/healthz").is_success
    assert httpx.get(f"{told['url']}/v1/jobs").status_code == 401
    token = Path(told["token_file"]).read_text().strip()
    assert httpx.get(f"{told['url']}/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_second_up_on_the_same_data_says_who_is_there(platform: Platform) -> None:
    assert platform.process is not None
    second = platform.run("up", "--data", str(platform.data))
    assert second.code == 3
    assert len(second.err.strip().splitlines()) == 1
    assert str(platform.process.pid) in second.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1:99999"),
        ("--nats-url", "nats://127.0.0.1:1"),
        ("--s3-url", "http://127.0.0.1:1"),
        ("--s3-url", "http://127.0.0.1:1", "--s3-credentials", "/nonexistent"),
    ],
)
def test_bad_usage_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [*OVERSPILL, "up", "--data", str(tmp_path / "data"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(tmp_path), timeout=60, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_the_object_store_has_no_door_without_a_key(platform: Platform) -> None:
    ports = json.loads((platform.data / "objects" / "ports.json").read_text())
    assert httpx.get(f"http://127.0.0.1:{ports['filer']}/buckets/overspill/").status_code == 401
    assert httpx.post(f"http://127.0.0.1:{ports['filer']}/buckets/overspill/x", content=b"x").status_code == 401
    assert httpx.get(f"http://127.0.0.1:{ports['s3']}/overspill").status_code == 403
    assigned = httpx.get(f"http://127.0.0.1:{ports['master']}/dir/assign").json()
    assert httpx.post(f"http://{assigned['url']}/{assigned['fid']}", content=b"x").status_code == 401


def listening(data: Path) -> dict[int, str]:
    """By port: the address, as the kernel writes it, where a process of this `up` listens, for TCP or UDP."""
    sockets: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(data).encode() in (process / "cmdline").read_bytes() + (process / "environ").read_bytes():
                sockets |= {str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()}
    found: dict[int, str] = {}
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].rpartition(":")
                found[int(port, 16)] = address
    return found


def test_everything_listens_on_the_loopback_alone(platform: Platform) -> None:
    store = json.loads((platform.data / "objects" / "ports.json").read_text())
    known = {port + above for port in store.values() for above in (0, 10_000)}  # gRPC above HTTP
    known |= set(json.loads((platform.data / "ports.json").read_text()).values())
    there = listening(platform.data)
    assert known <= there.keys()
    assert set(there.values()) == {"0100007F"}  # 127.0.0.1


def test_killed_it_leaves_no_process_and_forgets_nothing(own: Platform) -> None:
    done = own.run("run", "--no-source", str(own.spec("steps: [{run: echo kept}]") / "build.yaml"))
    assert done.code == 0, done.err
    submit_and_wait_for_line(own, "on-lost: fail\nsteps: [{run: 'echo begun; exec sleep 3600'}]")
    assert any("sleep 3600" in line for line in processes_of(own.data))
    assert own.process is not None
    own.process.kill()
    own.process.communicate()
    wait_until_nothing_runs(own.data)
    assert processes_of(own.data) == []

    url = own.ready["url"]
    own.start()
    assert own.ready["url"] == url
    jobs = {job["state"]: job["id"] for job in own.run("jobs", "--json").json()["jobs"]}
    assert "succeeded" in jobs
    assert "kept" in own.run("logs", jobs["succeeded"]).out


def test_a_signal_ends_it_in_order_and_what_ran_ends_as_an_error(own: Platform) -> None:
    job = submit_and_wait_for_line(own, "on-lost: fail\nsteps: [{run: 'echo begun; exec sleep 3600'}]")
    assert own.end() == 0
    assert processes_of(own.data) == []
    assert not (own.data / "server.json").exists()
    own.start()
    assert own.run("show", job, "--json").json()["state"] == "error"
    assert own.end(signal.SIGINT) == 0


def test_a_killed_bus_server_is_started_again_and_jobs_go_on(own: Platform) -> None:
    os.kill(pid_of(own.data, "nats-server"), signal.SIGKILL)
    done = own.run("run", "--no-source", str(own.spec("steps: [{run: echo again}]") / "build.yaml"))
    assert done.code == 0, done.out + done.err


def test_a_killed_hub_is_started_again_at_the_same_address_and_builds_go_on(own: Platform) -> None:
    job = submit_and_wait_for_line(own, "steps: [{run: 'echo begun; while [ ! -e go ]; do sleep 0.1; done; echo on'}]")
    os.kill(pid_of(own.data, "overspill.hub"), signal.SIGKILL)
    next((own.data / "agent" / "attempts").glob(f"{job}-1")).joinpath("work", "go").touch()
    until_it_answers(own)
    assert own.run("logs", "-f", job).out.splitlines() == ["begun", "on"]
    ended = own.run("show", job, "--json").json()
    assert (ended["state"], ended["epoch"]) == ("succeeded", 1)
    done = own.run("run", "--no-source", str(own.spec("steps: [{run: echo again}]") / "build.yaml"))
    assert done.code == 0, done.out + done.err


def test_a_hub_that_is_ended_ends_its_streams_and_followers_go_on_where_they_were(own: Platform) -> None:
    spec = own.spec("steps: [{run: 'echo begun; while [ ! -e go ]; do sleep 0.1; done; echo on'}]")
    job = own.run("run", "--detach", "--no-source", str(spec / "build.yaml")).out.strip()
    following = own.popen("logs", "-f", job)
    assert following.stdout is not None
    assert following.stdout.readline() == "begun\n"
    hub = pid_of(own.data, "overspill.hub")
    os.kill(hub, signal.SIGTERM)
    (own.data / "agent" / "attempts" / f"{job}-1" / "work" / "go").touch()
    out, err = following.communicate(timeout=END_SECONDS)
    assert (following.returncode, out, err) == (0, "on\n", "")
    assert pid_of(own.data, "overspill.hub") != hub
    log = (own.data / "logs" / "hub.log").read_text()
    assert "Traceback" not in log
    assert '"level":"error"' not in log


def test_a_killed_agent_is_started_again_and_what_it_ran_is_told_truthfully(own: Platform, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    step = f"{{run: 'echo x >>{runs}; echo begun; [ $(wc -l <{runs}) -gt 1 ] || exec sleep 3600'}}"
    lost = submit_and_wait_for_line(own, "on-lost: fail\nsteps: [{run: 'echo begun; exec sleep 3600'}]")
    again = submit_and_wait_for_line(own, f"steps: [{step}]")
    os.kill(pid_of(own.data, "runner.agent"), signal.SIGKILL)
    assert own.run("logs", "-f", again).code == 0
    assert own.run("logs", "-f", lost).code == 0
    ended = own.run("show", again, "--json").json()
    assert (ended["state"], ended["epoch"]) == ("succeeded", 2)
    assert runs.read_text() == "x\nx\n"
    assert own.run("show", lost, "--json").json()["state"] == "error"
    assert not any("sleep 3600" in line for line in processes_of(own.data))


def test_a_hub_that_keeps_dying_ends_it_with_a_line_that_says_so(own: Platform) -> None:
    assert own.process is not None
    killed = 0
    while own.process.poll() is None:
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(pid_of(own.data, "overspill.hub"), signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    own.process.communicate()
    assert own.process.returncode == 3
    assert killed >= 5
    assert "hub ended unexpectedly" in (own.home / "up.err").read_text()
    assert processes_of(own.data) == []


async def test_it_uses_a_bus_and_an_object_store_that_are_there(fresh_bus_server, tmp_path: Path) -> None:
    store = embedded_store.prepare(tmp_path / "objects")
    log = tmp_path / "weed.log"
    with guarded(store.command, log, store.environment, store.directory) as process:

        def look() -> str | None:
            with contextlib.suppress(httpx.HTTPError):
                return "yes" if httpx.get(f"{store.settings.url}/healthz", timeout=1).is_success else None
            return None

        await asyncio.to_thread(wait_for, look, process, log)
        flags = ("--nats-url", fresh_bus_server.url, "--identity", str(fresh_bus_server.identity.directory))
        flags += ("--s3-url", store.settings.url, "--s3-credentials", str(store.settings.credentials_file))
        platform = Platform(tmp_path, tmp_path / "data", flags)
        await asyncio.to_thread(platform.start)
        try:
            assert platform.ready["nats_url"] == fresh_bus_server.url
            assert not (tmp_path / "data" / "nats").exists()
            assert not (tmp_path / "data" / "objects").exists()
            tree = platform.spec("steps: [{run: echo elsewhere}]")
            done = await asyncio.to_thread(platform.run, "run", "--no-source", str(tree / "build.yaml"))
            assert done.code == 0, done.out + done.err
        finally:
            assert await asyncio.to_thread(platform.end) == 0
