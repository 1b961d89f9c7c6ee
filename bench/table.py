"""The table of README.md, from the newest line of each figure: `python -m bench.table`."""

import time
from pathlib import Path
from typing import Any

import orjson

from bench.measuring import RESULTS

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
KUBE = tuple(f"kube_scale_{name}" for name in ("latency", "burst", "live", "picture"))
ORDER = ("handover", "submit", "cancel", "jobs", "log_path", "idle", "history", *KUBE)


def newest(name: str, results: Path = RESULTS) -> dict[str, Any] | None:
    path = results / f"{name}.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return orjson.loads(lines[-1]) if lines else None


def _gates(row: dict[str, Any]) -> str:
    return "<br>".join(f"{'✓' if gate['met'] else '✗'} {gate['text']}" for gate in row["gates"]) or "reported"


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown. Empty without runs."""
    lines = ["| figure | measured | beside it, same run | ratio | gate | command |", "|---|---|---|---|---|---|"]
    for run in runs:
        for row in run["rows"]:
            cells = (row["figure"], row["measured"], row["beside"], row["ratio"], _gates(row), f"`{row['command']}`")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def about(runs: list[dict[str, Any]]) -> str:
    first = runs[0]
    machine = first["machine"]
    loads = ", ".join(f"{run['name']} {run['load'][0]} → {run['load'][1]}" for run in runs)
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(first["at_unix"]))
    return (
        f"Measured {day} UTC on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}. Load of a minute before → after each: {loads}."
    )


def write() -> None:
    runs = [run for name in ORDER if (run := newest(name)) is not None]
    if not runs:
        return
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{about(runs)}\n\n{table(runs)}\n{END}{after}")


if __name__ == "__main__":
    write()
