"""Subjects as values: `str(Evt(tenant=…, …))` to publish, `Evt.parse(text)` to read, `Evt.filter(tenant=…)` to
subscribe.
"""

import re
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from shared.errors import Poison
from shared.ids import is_token

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Subject:
    """A subclass declares `pattern`, e.g. `evt.{tenant}.{job}`, and one field for each brace."""

    pattern: ClassVar[str]

    def __str__(self) -> str:
        values = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        for name, value in values.items():
            if not is_token(value):
                raise Poison(why=f"{name} {value[:60]!r} is no subject token ([a-z0-9-]{{1,40}})")
        return self.pattern.format(**values)

    @classmethod
    def filter(cls, **known: object) -> str:
        """The subject with `*` for every field that is not given."""
        unknown = known.keys() - set(_FIELD.findall(cls.pattern))
        if unknown:
            raise TypeError(f"{cls.__name__} has no {sorted(unknown)}")
        return _FIELD.sub(lambda brace: str(known.get(brace[1], "*")), cls.pattern)

    @classmethod
    def parse(cls, subject: str) -> Self:
        """Raises Poison when `subject` is not of this pattern."""
        expected, given = cls.pattern.split("."), subject.split(".")
        if len(expected) != len(given):
            raise Poison(why=f"{subject!r} is not {cls.pattern}")
        values: dict[str, object] = {}
        kinds = {field.name: field.type for field in fields(cls)}
        for part, token in zip(expected, given, strict=True):
            if not part.startswith("{"):
                if part != token:
                    raise Poison(why=f"{subject!r} is not {cls.pattern}")
                continue
            name = part[1:-1]
            if not is_token(token):
                raise Poison(why=f"{subject!r} is not {cls.pattern}")
            if kinds[name] in (int, "int"):
                if not (token.isascii() and token.isdigit()):
                    raise Poison(why=f"{subject!r}: {name} is no number")
                values[name] = int(token)
            else:
                values[name] = token
        return cls(**values)
