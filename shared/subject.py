"""Subjects as values: `str(Evt(tenant=…, …))` to publish, `Evt.parse(text)` to read, `Evt.filter(tenant=…)` to
subscribe.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from shared.errors import Poison
from shared.ids import TOKEN, is_token

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Subject:
    """A subclass declares `pattern`, e.g. `evt.{tenant}.{job}`, and one field for each brace."""

    pattern: ClassVar[str]
    _names: ClassVar[tuple[str, ...]]
    _numbers: ClassVar[frozenset[str]]
    _text: ClassVar[str]
    _whole: ClassVar[re.Pattern[str]]

    def __init_subclass__(cls) -> None:
        """Make the pattern ready once: a message's subject is written and read several times on its way."""
        cls._names = tuple(_FIELD.findall(cls.pattern))
        cls._numbers = frozenset(name for name, kind in cls.__annotations__.items() if kind in (int, "int"))
        cls._text = _FIELD.sub("%s", cls.pattern)
        fixed = [re.escape(part) for part in _FIELD.sub(" ", cls.pattern).split(" ")]
        cls._whole = re.compile(f"({TOKEN.pattern})".join(fixed))

    def __str__(self) -> str:
        text = self._text % tuple([getattr(self, name) for name in self._names])
        if self._whole.fullmatch(text) is None:
            for name in self._names:
                if not is_token(value := str(getattr(self, name))):
                    raise Poison(why=f"{name} {value[:60]!r} is no subject token ([a-z0-9-]{{1,40}})")
        return text

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
        found = cls._whole.fullmatch(subject)
        if found is None:
            raise Poison(why=f"{subject!r} is not {cls.pattern}")
        values: dict[str, object] = {}
        for name, token in zip(cls._names, found.groups(), strict=True):
            if name not in cls._numbers:
                values[name] = token
            elif token.isdecimal():
                values[name] = int(token)
            else:
                raise Poison(why=f"{subject!r}: {name} is no number")
        return cls(**values)
