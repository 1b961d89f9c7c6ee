"""`overspill`, `python -m overspill`."""

import sys


def main() -> None:
    """Never returns; every failure is one line on stderr and an exit code."""
    sys.exit(_run())


def _run() -> int:  # noqa: PLR0911 - one return for each way to end
    import typer

    from overspill.cli.app import app
    from overspill.cli.output import complain, drop_output
    from overspill.complaint import Complaint, Exit
    from shared.errors import OverspillError, Rejected

    try:
        code = app(prog_name="overspill", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return Exit.CANCELLED
    except typer.TyperException as error:
        if message := error.format_message():
            complain(f"{message.rstrip('.')}; see `overspill --help`")
        return Exit.USAGE
    except Complaint as error:
        complain(str(error))
        return error.code
    except OverspillError as error:
        complain(str(error))
        return Exit.USAGE if isinstance(error, Rejected) or error.status < 500 else Exit.PLATFORM  # noqa: PLR2004 - HTTP: theirs below, ours from there
    except KeyboardInterrupt:
        return Exit.CANCELLED
    except BrokenPipeError:
        drop_output()
        return 0


if __name__ == "__main__":
    main()
