"""Options and arguments that several commands share."""

from typing import Annotated

import typer

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="id, an unambiguous beginning of one, or `last`", show_default=False)
]
LastJob = Annotated[str, typer.Argument(metavar="JOB", help="id, an unambiguous beginning of one, or `last`")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
