"""Every figure in turn, each in a process of its own, then the table: `python -m bench`, which is `make bench`.

A figure that breaks does not keep the others from being measured; the exit code says that one did.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench import table

SMOKE: dict[str, tuple[str, ...]] = {
    "handover": ("--rounds", "1", "--steps", "5", "--polled", "2"),
    "submit": ("--jobs", "1", "--twenties", "1", "--rest", "0"),
    "cancel": ("--jobs", "1", "--deaf", "1"),
    "jobs": ("--jobs", "40", "--warm-up", "10", "--under-way", "8", "--only", "one-hub-process"),
    "log_path": ("--megabytes", "16"),
    "idle": ("--seconds", "1", "--settle", "0"),
    "history": ("--jobs", "100", "--pages", "5", "--restarts", "0"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Every figure, then the table.")
    parser.add_argument(
        "figures", nargs="*", default=[], metavar="figure", help=f"of {', '.join(SMOKE)}; all by default"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that all of it runs, measures nothing")
    parser.add_argument("--peer", type=Path, help="Tekton's entrypoint binary, for the hand-over")
    options = parser.parse_args()
    broken = []
    for name in options.figures or SMOKE:
        words = SMOKE[name] if options.smoke else ()
        if name == "handover" and options.peer:
            words = (*words, "--peer", str(options.peer))
        print(f"── {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *words], check=False).returncode != 0:
            broken.append(name)
    if not options.smoke:
        table.write()
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
