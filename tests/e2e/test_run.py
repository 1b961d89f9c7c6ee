"""`overspill run`, from a working tree to an exit code."""

import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.platform import Platform


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("steps: [{run: 'true'}]", 0),
        ("steps: [{run: 'exit 7'}]", 1),
        ("steps: [{run: 'kill -SEGV $$'}]", 1),
        ("steps: [{command: [no-such-program]}]", 1),
        ("steps: [{run: 'false', continue-on-error: true}, {run: 'true'}]", 0),
        ("steps: [{run: 'false'}, {run: 'true', if: always()}]", 1),
        ("timeout: 1s\nsteps: [{run: sleep 60}]", 124),
        ("steps: [{run: sleep 60, timeout: 1s}]", 1),
        ("steps: [{runn: 'true'}]", 2),
        ("artifacts: [{name: none, paths: [nothing-here]}]\nsteps: [{run: 'true'}]", 1),
    ],
)
def test_the_exit_code_is_the_jobs(platform: Platform, spec: str, code: int) -> None:
    result = platform.run("run", cwd=platform.spec(spec))
    assert result.code == code, result.out + result.err


def test_what_steps_print_is_followed_to_the_last_byte(platform: Platform) -> None:
    tree = platform.spec("steps:\n- run: seq 1 20000\n- run: printf 'no newline at the end'\n")
    result = platform.run("run", cwd=tree)
    assert result.code == 0
    numbers = [int(line) for line in result.out.splitlines() if line.isdigit()]
    assert numbers == list(range(1, 20001))
    assert "no newline at the end" in result.out


def test_the_tree_is_what_git_tracks_and_does_not_ignore(platform: Platform) -> None:
    tree = platform.spec("steps: [{run: \"find . -type f -o -type l | sort | grep -v '^./.git/'; cat tracked\"}]")
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("ignored\n")
    for name in ("tracked", "untracked", "ignored", "deleted", "Ünïcode name"):
        (tree / name).write_text(f"{name} as it was\n")
    (tree / "link").symlink_to("tracked")
    git(tree, "add", "tracked", "deleted")
    (tree / "tracked").write_text("changed since\n")
    (tree / "deleted").unlink()
    result = platform.run("run", cwd=tree)
    assert result.code == 0, result.out + result.err
    for shown in ("./tracked", "./untracked", "./link", "./Ünïcode name", "changed since"):
        assert shown in result.out
    for hidden in ("./ignored", "./deleted"):
        assert hidden not in result.out


def git(tree: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tree, check=True)


def test_environment_outputs_and_summary_reach_where_they_belong(platform: Platform) -> None:
    tree = platform.spec(
        "env: {COLOUR: blue}\n"
        "steps:\n"
        "- {name: make, run: 'echo MADE=yes >>$OVERSPILL_ENV; echo size=42 >>$OVERSPILL_OUTPUT;"
        ' echo "# All well" >>$OVERSPILL_SUMMARY\'}\n'
        "- {name: use, run: 'test $MADE-$COLOUR = yes-blue'}\n"
    )
    assert platform.run("run", cwd=tree).code == 0
    shown = platform.run("show", "last", "--json")
    assert shown.code == 0
    assert '"size"' in shown.out
    assert "All well" in shown.out


def test_a_step_sees_an_allow_list_of_the_environment(platform: Platform) -> None:
    result = platform.run("run", cwd=platform.spec("steps: [{run: env}]"))
    assert result.code == 0
    assert "OVERSPILL_TOKEN" not in result.out
    assert "NATS" not in result.out
    assert f"HOME={platform.home}\n" not in result.out


def test_a_background_step_serves_the_later_ones_and_is_ended(platform: Platform) -> None:
    tree = platform.spec(
        "steps:\n"
        "- {name: server, background: true, run: 'echo serving; python3 -m http.server 18987 --bind 127.0.0.1',"
        ' ready: \'python3 -c "import urllib.request as u; u.urlopen(\\"http://127.0.0.1:18987\\")"\'}\n'
        "- {name: ask, run: 'python3 -c \"import urllib.request as u;"
        ' print(u.urlopen(\\"http://127.0.0.1:18987\\").status)"\'}\n'
    )
    result = platform.run("run", cwd=tree)
    assert result.code == 0, result.out + result.err
    assert "200" in result.out
    assert "serving" in platform.run("logs", "last", "--step", "1").out


def test_an_artifact_comes_back_byte_for_byte(platform: Platform) -> None:
    tree = platform.spec(
        "artifacts: [{name: My büild, paths: ['out/**']}]\n"
        "steps: [{run: 'mkdir -p out/deep; head -c 300000 /dev/zero >out/zeros; echo x >out/deep/x'}]"
    )
    assert platform.run("run", cwd=tree).code == 0
    fetched = platform.run("artifacts", "last", "--download", str(tree / "got"))
    assert fetched.code == 0, fetched.err
    (packed,) = (tree / "got").iterdir()
    with tarfile.open(packed) as files:
        files.extractall(tree / "unpacked", filter="data")
    assert (tree / "unpacked/out/zeros").read_bytes() == bytes(300_000)
    assert (tree / "unpacked/out/deep/x").read_text() == "x\n"


def test_ctrl_c_cancels_the_job_and_says_130(platform: Platform) -> None:
    process = platform.popen("run", cwd=platform.spec("steps: [{run: 'echo started; sleep 300'}]"))
    assert process.stdout is not None
    for line in process.stdout:
        if "started" in line and "echo" not in line:
            break
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert platform.run("jobs", "--json").out.count('"cancelled"') >= 1


def test_an_image_on_a_machine_without_containers_waits_and_says_why(platform: Platform) -> None:
    tree = platform.spec("steps: [{image: 'alpine:3', run: 'true'}]")
    submitted = platform.run("submit", "build.yaml", "--json", cwd=tree)
    assert submitted.code == 0, submitted.err
    job = submitted.json()["id"]
    why = platform.run("why", job)
    assert "isolat" in why.out, why.out + why.err
    assert platform.run("cancel", job).code == 0


def test_the_same_key_submits_once_and_another_spec_under_it_is_refused(platform: Platform) -> None:
    tree = platform.spec("steps: [{run: 'true'}]")
    first = platform.run("submit", "build.yaml", "--key", "once", "--json", cwd=tree)
    again = platform.run("submit", "build.yaml", "--key", "once", "--json", cwd=tree)
    assert first.json()["id"] == again.json()["id"]
    (tree / "build.yaml").write_text("steps: [{run: 'false'}]")
    other = platform.run("submit", "build.yaml", "--key", "once", cwd=tree)
    assert other.code != 0
    assert len(other.err.strip().splitlines()) == 1


def test_the_log_of_an_attempt_that_never_was_is_refused(platform: Platform) -> None:
    assert platform.run("run", "--no-source", cwd=platform.spec("steps: [{run: 'echo hello'}]")).code == 0
    refused = platform.run("logs", "last", "--step", "1", "--epoch", "7")
    assert refused.code != 0
    assert "attempt 7 of this job; its newest is 1" in refused.err
