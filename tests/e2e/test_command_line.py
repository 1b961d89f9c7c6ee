"""The command line as people and scripts use it."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.platform import OVERSPILL, Platform, clean_environment

ROOT = Path(__file__).parents[2]


def run(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*OVERSPILL, *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(home) | environment,
        cwd=home,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("version",), ("completion", "bash")])
def test_what_needs_no_server_imports_nothing_dear(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "overspill", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path),
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"httpx", "rich", "nats", "fastapi", "aioboto3", "yaml", "asyncio"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("shwo",), 2, "Did you mean 'show'"),
        (("run",), 2, "there is no build.yaml"),
        (("run", "--env", "X"), 2, "give KEY=VALUE"),
        (("validate", "nowhere.yaml"), 2, "can't be read"),
        (("jobs", "--limit", "0"), 2, "--limit"),
        (("jobs",), 3, "start one with `overspill up`"),
        (("run", "--detach", "build.yaml"), 2, "can't be read"),
    ],
)
def test_an_error_is_one_line_that_names_the_remedy(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "jobs", OVERSPILL_URL="http://127.0.0.1:9", OVERSPILL_TOKEN="t")
    assert done.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in done.stderr


@pytest.mark.parametrize("url", ["http://ho\x01st", "gopher://host", "http://host:http", "http://host:70000"])
def test_an_address_that_is_none_is_one_line_that_names_the_remedy(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, "jobs", OVERSPILL_URL=url, OVERSPILL_TOKEN="t")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "OVERSPILL_URL" in done.stderr
    assert "give http://host:port" in done.stderr


def test_without_a_server_run_brings_the_platform_up_for_the_one_job_and_takes_it_down(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text("steps: [{run: echo alone}]\n")
    done = run(tmp_path, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alone" in done.stdout
    data = tmp_path / ".local" / "share" / "overspill"
    assert not (data / "server.json").exists()
    left = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    # What it did is known to the next one.
    assert run(tmp_path, "run").returncode == 0


def test_a_job_is_named_by_its_id_a_beginning_of_it_or_last(platform: Platform) -> None:
    job = platform.run("run", "--detach", cwd=platform.spec("{name: named, steps: [{run: 'true'}]}")).out.strip()
    for name in (job, job[:10], "last", "-"):
        assert platform.run("show", name, "--json").json()["id"] == job
    assert "no job's id begins" in platform.run("show", "0189").err
    assert platform.run("show", "0189").code == 2


def test_following_a_log_shows_all_of_it_with_the_time_of_each_line(platform: Platform) -> None:
    spec = platform.spec("steps: [{name: first, run: 'seq 1 500'}, {name: second, run: 'echo end'}]")
    job = platform.run("run", "--detach", cwd=spec).out.strip()
    followed = platform.run("logs", job, "-f", "-t", "--step", "first").out.splitlines()
    assert [line.split(" ", 1)[1] for line in followed] == [str(number) for number in range(1, 501)]
    assert all(re.match(r"20\d\d-\d\d-\d\dT[\d:.]+Z ", line) for line in followed)
    assert platform.run("logs", job, "--step", "2").out == "end\n"
    assert "it has 'first', 'second'" in platform.run("logs", job, "--step", "third").err


def test_name_environment_and_labels_can_be_given(platform: Platform) -> None:
    spec = platform.spec("{env: {A: spec, B: spec}, steps: [{run: 'echo $A $B'}]}")
    done = platform.run("run", "--name", "other", "--env", "A=line", "--label", "who=me", cwd=spec)
    assert "line spec" in done.out
    (job,) = platform.run("jobs", "--label", "who=me", "--json").json()["jobs"]
    assert job["name"] == "other"


def test_as_json_a_run_is_the_facts_one_a_line(platform: Platform) -> None:
    import json

    done = platform.run("run", "--json", cwd=platform.spec("steps: [{run: 'exit 3'}]"))
    assert done.code == 1
    told = [json.loads(line) for line in done.out.splitlines()]
    assert told[-1]["data"]["state"] == "failed"
    assert "overspill.step.ended.v1" in {each["type"] for each in told}


def test_a_reader_that_goes_away_is_no_error(platform: Platform) -> None:
    job = platform.run("run", "--detach", cwd=platform.spec("steps: [{run: 'seq 1 200000'}]")).out.strip()
    platform.run("logs", job, "-f")
    with platform.popen("logs", job, "--step", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


class Terminal:
    """`overspill run` as somebody sees it on a terminal."""

    def __init__(self, platform: Platform, cwd: Path) -> None:
        self.shown = ""
        self._mine, theirs = pty.openpty()
        environment = {k: v for k, v in platform.environment().items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*OVERSPILL, "run"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text: str | None) -> None:
        """Read until `text` was shown, or to the end."""
        while text is None or text not in self.shown:
            ready, _, _ = select.select([self._mine], [], [], 60)
            assert ready, self.shown
            try:
                data = os.read(self._mine, 65_536)
            except OSError:
                data = b""
            if not data:
                assert text is None, self.shown
                os.close(self._mine)
                return
            self.shown += data.decode(errors="replace")


def test_on_a_terminal_steps_have_marks_and_the_running_one_a_tail(platform: Platform) -> None:
    spec = platform.spec(
        "steps: [{name: quick, run: 'true'}, {name: slow, run: 'echo I am the tail; sleep 2; exit 4'}]"
    )
    terminal = Terminal(platform, spec)
    terminal.until("I am the tail")
    terminal.until(None)
    assert terminal.process.wait(60) == 1
    assert "✓" in terminal.shown
    assert "exit code 4" in terminal.shown
    assert "system time" in terminal.shown


def test_the_second_ctrl_c_leaves_at_once(platform: Platform) -> None:
    terminal = Terminal(
        platform, platform.spec("steps: [{run: 'trap \"\" TERM; echo ready to stay; sleep 30 & wait; wait'}]")
    )
    terminal.until("ready to stay")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("cancelling")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until(None)
    assert terminal.process.wait(10) == 130


def test_a_service_submits_over_the_bus_with_nothing_but_nats_py(platform: Platform) -> None:
    creds = platform.home / "example.creds"
    platform.run("identity", "service", "default", "--identity", str(platform.data / "identity"), "--out", str(creds))
    assert creds.stat().st_mode & 0o777 == 0o600
    url = platform.ready["nats_url"]
    command = [sys.executable, str(ROOT / "examples" / "publish_job.py"), "--url", url, "--creds", str(creds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    states = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert (states[0], states[-1]) == ("queued", "succeeded")
    bad = platform.home / "bad.json"
    bad.write_text('{"stepz": []}')
    refused = subprocess.run([*command, "--spec", str(bad)], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "did you mean `steps`" in refused.stderr


def commands_of_the_readme() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return [line.strip().partition("#")[0].strip() for line in text.splitlines() if line.startswith("    overspill ")]


def test_the_readmes_commands_do_what_it_says(platform: Platform) -> None:
    readme = (ROOT / "README.md").read_text()
    (spec,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    tree = platform.spec(spec)
    commands = [command for command in commands_of_the_readme() if command != "overspill up"]
    assert len(commands) > 5
    for command in commands:
        done = platform.run(*command.split()[1:], cwd=tree)
        assert done.code == 0, command + done.out + done.err
    assert (tree / "out" / "greeting.tar.gz").is_file()


def test_the_readmes_make_targets_and_files_are_there() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for path in re.findall(r"\]\(([^)h][^)]*)\)", readme):
        assert (ROOT / path).exists(), path
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].lstrip(">=") in readme
