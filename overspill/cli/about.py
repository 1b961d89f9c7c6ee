"""What the program says of itself."""

from enum import StrEnum
from typing import Annotated

import typer

from overspill.cli.options import AsJson
from overspill.cli.output import say, show_json
from shared.version import VERSION


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS = {
    Shell.BASH: """_overspill() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _OVERSPILL_COMPLETE=complete_bash overspill))
}
complete -o default -F _overspill overspill""",
    Shell.ZSH: """#compdef overspill
_overspill() {
    eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _OVERSPILL_COMPLETE=complete_zsh overspill)
}
compdef _overspill overspill""",
    Shell.FISH: """function __overspill_complete
    set -lx _OVERSPILL_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION $argv[1]
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    overspill
end
complete -c overspill -f -n '__overspill_complete is-args' -a '(__overspill_complete get-args)'""",
}


def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        show_json({"version": VERSION})
    else:
        say(f"overspill {VERSION}")


def completion(shell: Annotated[Shell, typer.Argument(help="the shell to complete in")]) -> None:
    """Print the completion script of a shell: `overspill completion bash >>~/.bashrc`."""
    say(SCRIPTS[shell])
