"""What a party shows the bus."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from shared.errors import OverspillError


class BadCredential(OverspillError):
    """{path} holds no bus credential; make one with `overspill identity`."""

    code = "bad_credential"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user JWT of the bus and the seed that proves it. The seed never shows in a repr."""

    jwt: str
    seed: str = field(repr=False)
    name: str = ""
    """The party's name; its inbox is `_INBOX_<name>.>`."""

    @property
    def inbox_prefix(self) -> str:
        return f"_INBOX_{self.name}" if self.name else "_INBOX"

    def to_file_text(self) -> str:
        """The common `.creds` form, with the party's name in a comment line of its own."""
        return (
            f"# {self.name}\n-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )

    @classmethod
    def from_file(cls, path: Path) -> Self:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        name = lines[0].removeprefix("# ") if lines and lines[0].startswith("# ") else ""
        body = [line for line in lines if not line.startswith(("-", "#"))]
        if len(body) != 2:  # noqa: PLR2004 - the JWT and the seed
            raise BadCredential(path=path)
        return cls(body[0], body[1], name)
