"""The spec, without a server."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from overspill.cli.options import AsJson
from overspill.cli.output import say, show_json

SpecFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="a build.yaml, or - for standard input", allow_dash=True)
]


def read_file(path: Path) -> bytes:
    """Raises Complaint."""
    from overspill.complaint import Complaint, Exit

    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise Complaint(f"{path} can't be read: {error.strerror}", Exit.USAGE) from error


def validate(file: SpecFile = Path("build.yaml"), *, as_json: AsJson = False) -> None:
    """Check a spec without a server."""
    from shared.spec_reading import read_spec

    spec = read_spec(read_file(file))
    if as_json:
        show_json(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        return
    count = len(spec.steps)
    say(f"{file}: good: {spec.name}, {count} step{'s' if count > 1 else ''}")


def schema() -> None:
    """Print the JSON Schema of the spec, for editors and validators."""
    from shared.spec import JobSpec

    show_json(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://overspill.dev/schema/job.json",
            **JobSpec.model_json_schema(by_alias=True),
        }
    )
