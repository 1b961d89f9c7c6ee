"""Real packages, built by Overspill as their own authors build them: the verdicts are the truth, the logs whole."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.e2e.platform import Platform

EXAMPLES = Path(__file__).parents[2] / "examples"
ROW = re.compile(r"^\| `(?P<name>[a-z0-9-]+)` \|.*\| (?P<needs>[^|]+) \| \**(?P<verdict>succeeded|failed)\b.*\|$")
TABLE = {
    row["name"]: (row["needs"].strip(), row["verdict"])
    for row in map(ROW.match, (EXAMPLES / "README.md").read_text().splitlines())
    if row is not None
}


def test_the_table_lists_every_example_and_no_other() -> None:
    assert set(TABLE) == {path.parent.name for path in EXAMPLES.glob("*/build.yaml")}
    assert len(TABLE) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLE))
def test_an_example_ends_as_the_table_says(platform: Platform, name: str) -> None:
    needs, verdict = TABLE[name]
    missing = [tool for tool in needs.split(", ") if shutil.which(tool) is None]
    assert not missing, f"install {', '.join(missing)} to run this example"
    spec = EXAMPLES / name / "build.yaml"
    result = platform.run("run", "--no-source", str(spec), timeout=600)
    assert result.code == {"succeeded": 0, "failed": 1}[verdict], result.out[-3000:] + result.err
    job = platform.run("show", last_job(result.out), "--json").json()
    assert job["state"] == verdict
    ran = [step for step in job["steps"] if step["state"] != "skipped"]
    for step in ran:
        kept = platform.run("logs", job["id"], "--step", str(step["step"]))
        assert len(kept.out.encode(errors="replace")) >= step["log_bytes"] * 9 // 10
        assert kept.code == 0
    assert len(ran) == len(yaml.safe_load(spec.read_text())["steps"]) or verdict == "failed"


def last_job(out: str) -> str:
    """The line after the verdict names the job."""
    (job,) = re.findall(r"^job ([a-z0-9]{26}):", out, re.MULTILINE)
    return str(job)
