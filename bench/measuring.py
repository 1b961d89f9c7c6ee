"""What every figure is made of: samples, the processor time of processes, and the line that is kept."""

import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import orjson

RESULTS = Path(os.environ.get("OVERSPILL_BENCH_RESULTS", Path(__file__).parent / "results"))
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Samples:
    """Sorted."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        if not values:
            raise ValueError("nothing was measured")
        return cls(tuple(sorted(values)))

    def at(self, percentile: float) -> float:
        """The smallest value that so many percent don't exceed (nearest rank)."""
        return self.values[max(0, math.ceil(percentile / 100 * len(self.values)) - 1)]

    @property
    def p50(self) -> float:
        return self.at(50)

    @property
    def p99(self) -> float:
        return self.at(99)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a value is held against. `met` is said, never asserted."""

    value: float
    bound: float
    sense: Literal["at most", "at least"]
    text: str

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.sense == "at most" else self.value >= self.bound


@dataclass(slots=True)
class Row:
    """One line of the table."""

    figure: str
    measured: str
    beside: str
    """The peer or limit of the same run."""
    ratio: str
    command: str
    gates: list[Gate] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@contextmanager
def noted(name: str) -> Iterator[list[Row]]:
    """Append rows to what is yielded: they are printed and kept with the machine's load before and after."""
    before, began, rows = os.getloadavg()[0], time.time(), list[Row]()
    try:
        yield rows
    finally:
        if rows:
            _keep(name, rows, before, began)


def _keep(name: str, rows: list[Row], load_before: float, began: float) -> None:
    kept = {
        "name": name,
        "at_unix": round(began),
        "seconds": round(time.time() - began, 1),
        "machine": machine(),
        "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "rows": [
            {**asdict(row), "gates": [{"text": gate.text, "value": gate.value, "met": gate.met} for gate in row.gates]}
            for row in rows
        ],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("ab") as file:
        file.write(orjson.dumps(kept) + b"\n")
    for row in rows:
        print(f"{row.figure}: {row.measured}; beside {row.beside}; {row.ratio}")
        for gate in row.gates:
            print(f"    {'met' if gate.met else 'NOT MET'}: {gate.text} ({gate.value:.4g})")
        for key, value in row.details.items():
            print(f"    {key}: {value}")
    sys.stdout.flush()


# Processes, as the kernel counts them


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    """Of all threads, at any depth, `pid` itself first."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def name_of(pid: int) -> str:
    """`nats-server`, or the module a Python process runs."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "-m" in words:
        return words[words.index("-m") + 1]
    return Path(words[0]).name + (f" {words[1]}" if len(words) > 1 and Path(words[0]).name == "entrypoint" else "")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads included, its children not. 0 when it is gone."""
    try:
        stat = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(stat[11]) + int(stat[12])) * _TICK_SECONDS


def memory_bytes(pid: int) -> tuple[int, int]:
    """(resident, proportional): pages shared with others count in full in the former, in part in the latter."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        sizes[key] = int(rest.split()[0]) * 1024
    return sizes["Rss"], sizes["Pss"]


class CpuClock:
    """Processor time by process since it was made."""

    def __init__(self, processes: dict[str, int]) -> None:
        self._processes = processes
        self._before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        self._began = time.monotonic()

    def seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self._processes.items()}

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._began


def ms(seconds: float) -> str:
    """For people: milliseconds below a second."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
