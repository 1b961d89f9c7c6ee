"""From the end of one step to the first instruction of the next, and twenty steps that do nothing:
`python -m bench.handover`.

The step is a static program that notes its first and its last moment. Measured with one entrypoint for all steps (an
agent's way) and with one for each (a pod's containers, which wait for each other's files). Beside them, in the same
run and with the same program: a bare loop of fork, exec and wait, and a step behind a file looked for once a second;
`--peer` gives the path of Tekton's entrypoint to be measured too.
"""

import argparse
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from bench.measuring import Gate, Row, Samples, ms, noted
from bench.stack import scratch
from runner.entrypoint.build import binary
from runner.protocol.directory import AttemptDir
from runner.protocol.layout import Place, Whose, layout
from shared.spec import JobSpec

SOURCE = Path(__file__).parent / "native" / "beside.c"
STEP_MS = 2
"""How long a step takes: the next one is waiting by then."""
Wrap = Callable[[Path, Path, list[str]], list[str]]
"""(file to wait for, file to leave, the step's command): the command of a process that does so."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def beside(directory: Path) -> Path:
    """The compiled program of what stands beside."""
    target = directory / "beside"
    subprocess.run(["cc", "-O2", "-static", "-o", str(target), str(SOURCE)], check=True)
    return target


def gaps(stamps: Path) -> list[float]:
    """Seconds from each end to the next beginning."""
    times = sorted(tuple(int(word) for word in line.split()) for line in stamps.read_text().splitlines())
    return [(begin - end) / 1e9 for (_, end), (begin, _) in pairwise(times)]


def attempt(directory: Path, commands: Sequence[list[str]]) -> AttemptDir:
    """Laid out by the code that an agent uses."""
    steps = [{"name": f"step {number}", "command": command} for number, command in enumerate(commands, start=1)]
    spec = JobSpec.model_validate({"name": "bench", "steps": steps})
    at = AttemptDir(directory)
    for path in (at.work, at.home, at.tmp, directory / "go", directory / "lost"):
        path.mkdir(parents=True, exist_ok=True)
    for number in range(len(commands) + 1):
        at.step(number).mkdir(parents=True, exist_ok=True)
    for file in layout(spec, Whose("bench", "bench", 1), Place(at, ENVIRONMENT)):
        if file.path != "go/001":
            (directory / file.path).write_bytes(file.data)
            (directory / file.path).chmod(file.mode)
    return at


def let_go(at: AttemptDir) -> None:
    """The first step's turn."""
    (at.root / ".go").write_bytes(b"ok\n")
    (at.root / ".go").rename(at.go(1))


def ours(directory: Path, program: Path, steps: int, *, one: bool) -> list[float]:
    """`one`: a single entrypoint runs all steps; else each has its own, as in a pod."""
    stamps = directory / "stamps"
    at = attempt(directory / "attempt", [[str(program), "stamp", str(stamps), str(STEP_MS)]] * steps)
    numbers = [f"{number:03d}" for number in range(1, steps + 1)]
    entrypoint = str(binary())
    commands = (
        [[entrypoint, "run", str(at.root), *numbers]]
        if one
        else [[entrypoint, "run", str(at.root), number] for number in numbers]
    )
    running = [subprocess.Popen(command) for command in commands]
    time.sleep(0.3 if one else 0.02 * steps)  # all wait, as they do behind a longer step
    let_go(at)
    for process in running:
        assert process.wait(120) == 0
    return gaps(stamps)


def bare(directory: Path, program: Path, steps: int) -> list[float]:
    stamps = directory / "stamps"
    command = [str(program), "chain", str(steps), str(program), "stamp", str(stamps), str(STEP_MS)]
    subprocess.run(command, check=True)
    return gaps(stamps)


def waiting(directory: Path, steps: int, program: Path, wrap: Wrap) -> list[float]:
    """A process a step, each behind the file of the one before. Steps last unequally, so that no phase is preferred."""
    stamps, files = directory / "stamps", [directory / f"go-{number}" for number in range(steps + 1)]
    lengths = random.Random(1)
    running = [
        subprocess.Popen(
            wrap(wait, post, [str(program), "stamp", str(stamps), str(lengths.randrange(200, 1200))]),
            stdout=subprocess.DEVNULL,
        )
        for wait, post in pairwise(files)
    ]
    time.sleep(0.5)
    files[0].write_bytes(b"")
    for process in running:
        process.wait(120)
    return gaps(stamps)


def tekton(peer: Path, directory: Path) -> Wrap:
    def wrap(wait: Path, post: Path, command: list[str]) -> list[str]:
        end = ["-termination_path", str(directory / "termination"), "-step_metadata_dir", str(directory / "meta")]
        return [
            str(peer),
            "-wait_file",
            str(wait),
            "-post_file",
            str(post),
            *end,
            "-entrypoint",
            command[0],
            "--",
            *command[1:],
        ]

    return wrap


def no_ops(directory: Path, count: int) -> tuple[float, float]:
    """Seconds from the first start to the last end: (ours, the same commands in a bare loop)."""
    at = attempt(directory / "attempt", [["/bin/sh", "-c", ":"]] * count)
    let_go(at)
    subprocess.run([str(binary()), "run", str(at.root), *(f"{n:03d}" for n in range(1, count + 1))], check=True)
    began = int(_exit(at, 1)["started_unix_ns"])
    ended = int(_exit(at, count)["ended_unix_ns"])
    begin = time.monotonic()
    for _ in range(count):
        subprocess.run(["/bin/sh", "-c", ":"], check=True)
    return (ended - began) / 1e9, time.monotonic() - begin


def _exit(at: AttemptDir, step: int) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in at.step(step, "exit").read_text().splitlines())


def measured(directory: Path, rounds: int, measure: Callable[[Path], list[float]]) -> Samples:
    values: list[float] = []
    for number in range(rounds):
        place = directory / str(number)
        place.mkdir(parents=True)
        values += measure(place)
    return Samples.of(values)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hand-over between steps.")
    parser.add_argument("--peer", type=Path, help="Tekton's entrypoint binary, measured too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=51)
    parser.add_argument("--polled", type=int, default=21, help="steps behind a poll of one second")
    options = parser.parse_args()
    with scratch() as directory, noted("handover") as rows:
        program = beside(directory)
        limit = measured(directory / "bare", options.rounds, lambda at: bare(at, program, options.steps))
        polled = measured(
            directory / "poll",
            1,
            lambda at: waiting(
                at, options.polled, program, lambda a, b, command: [str(program), "poll", str(a), str(b), *command]
            ),
        )
        beside_it = f"bare fork+exec {ms(limit.p50)} / {ms(limit.p99)}; 1 s poll {ms(polled.p50)} / {ms(polled.p99)}"
        if options.peer:
            peer = measured(
                directory / "peer", 1, lambda at: waiting(at, options.polled, program, tekton(options.peer, at))
            )
            beside_it += f"; Tekton's entrypoint {ms(peer.p50)} / {ms(peer.p99)}"
        for name, one in (("one entrypoint (agent)", True), ("one entrypoint a step (pod)", False)):
            steps = options.steps if one else min(options.steps, 21)
            taken = measured(
                directory / f"ours-{one}", options.rounds, lambda at, n=steps, o=one: ours(at, program, n, one=o)
            )
            rows.append(
                Row(
                    f"step hand-over, {name}",
                    f"p50 **{ms(taken.p50)}** p99 **{ms(taken.p99)}**",
                    beside_it,
                    f"p99 {taken.p99 / limit.p99:.2f}x bare; p50 1/{polled.p50 / taken.p50:.0f} of the poll's",
                    "python -m bench.handover",
                    [
                        Gate(taken.p50 * 1000, 1, "at most", "p50 at most 1 ms"),
                        Gate(taken.p99 / limit.p99, 2, "at most", "p99 at most 2 x bare fork+exec's"),
                    ],
                    {"samples": len(taken.values)},
                )
            )
        rounds = [no_ops(_made(directory / f"no-ops-{n}"), 20) for n in range(max(3, options.rounds // 2))]
        taken, loop = Samples.of([each[0] for each in rounds]), Samples.of([each[1] for each in rounds])
        rows.append(
            Row(
                "20 steps of `sh -c :`, first start to last end",
                f"p50 **{ms(taken.p50)}** worst {ms(taken.values[-1])}",
                f"the same 20 by subprocess.run {ms(loop.p50)}; at a 1 s poll {polled.p50 * 19:.1f} s",
                f"{taken.p50 / loop.p50:.2f}x the loop",
                "python -m bench.handover",
                [Gate(taken.values[-1] * 1000, 150, "at most", "at most 150 ms")],
            )
        )


def _made(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    main()
