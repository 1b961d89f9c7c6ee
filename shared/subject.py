"""Subjects as values: `str(Evt(tenant=…, …))` to publish, `Evt.parse(text)` to read, `Evt.filter(tenant=…)` to
subscribe.
"""

import re
from dataclasses import FrozenInstanceError
from typing import ClassVar, Self, dataclass_transform

from shared.errors import Poison
from shared.ids import TOKEN, is_token

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass_transform(frozen_default=True)
class Subject:
    """A subclass declares `pattern`, e.g. `evt.{tenant}.{job}`, and one field for each brace.

    A frozen dataclass in all but how it is made: a decorator on each of `shared.flow` would write and compile methods
    for a tenth of the time in which a runner starts.
    """

    pattern: ClassVar[str]
    _fields: ClassVar[tuple[str, ...]]
    """In the order in which they are declared."""
    _names: ClassVar[tuple[str, ...]]
    _numbers: ClassVar[frozenset[str]]
    _text: ClassVar[str]
    _whole: ClassVar[re.Pattern[str] | None]

    def __init_subclass__(cls) -> None:
        """Make the pattern ready once: a message's subject is written and read several times on its way."""
        cls._fields = tuple(name for name in cls.__annotations__ if name != "pattern")
        cls._names = tuple(_FIELD.findall(cls.pattern))
        cls._numbers = frozenset(name for name, kind in cls.__annotations__.items() if kind in (int, "int"))
        cls._text = _FIELD.sub("%s", cls.pattern)
        cls._whole = None

    def __init__(self, *values: object, **named: object) -> None:
        given = dict(zip(self._fields, values, strict=False)) | named
        if len(values) + len(named) != len(self._fields) or given.keys() != set(self._fields):
            raise TypeError(f"{type(self).__name__} is made of {', '.join(self._fields)}")
        vars(self).update(given)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    @classmethod
    def _pattern(cls) -> re.Pattern[str]:
        """Compiled when it is first needed: nobody needs all of them, and a runner has to start soon."""
        if cls._whole is None:
            fixed = [re.escape(part) for part in _FIELD.sub(" ", cls.pattern).split(" ")]
            cls._whole = re.compile(f"({TOKEN.pattern})".join(fixed))
        return cls._whole

    def __str__(self) -> str:
        text = self._text % tuple([getattr(self, name) for name in self._names])
        if self._pattern().fullmatch(text) is None:
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
        found = cls._pattern().fullmatch(subject)
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
