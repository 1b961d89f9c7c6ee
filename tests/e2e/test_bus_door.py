"""The bus door, used by a service that knows nothing but nats-py."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.platform import Platform

EXAMPLE = Path(__file__).parents[2] / "examples" / "publish_job.py"


def publish(platform: Platform, *arguments: str) -> "subprocess.CompletedProcess[str]":
    creds = platform.home / "service.creds"
    if not creds.exists():
        made = platform.run(
            "identity", "service", "default", "--identity", str(platform.data / "identity"), "--out", str(creds)
        )
        assert made.code == 0, made.err
    command = [sys.executable, str(EXAMPLE), "--url", platform.ready["nats_url"], "--creds", str(creds), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_service_submits_a_job_and_follows_it_to_the_verdict(platform: Platform) -> None:
    done = publish(platform)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout


def test_the_same_event_is_one_job_and_both_doors_know_it(platform: Platform, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"name": "told twice", "steps": [{"run": "sleep 3"}]}))
    with ThreadPoolExecutor(2) as both:
        told = list(both.map(lambda _: publish(platform, "--id", "push-17", "--spec", str(spec)), range(2)))
    assert [done.returncode for done in told] == [0, 0], told
    assert told[0].stdout.splitlines()[0] == told[1].stdout.splitlines()[0]
    listed = platform.run("jobs", "--json").json()["jobs"]
    assert [job["submitted_via"] for job in listed if job["name"] == "told twice"] == ["bus"]


def test_a_refusal_comes_back_as_a_fact_that_names_the_remedy(platform: Platform, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"stepz": []}))
    done = publish(platform, "--spec", str(spec))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "did you mean `steps`?" in done.stdout + done.stderr
