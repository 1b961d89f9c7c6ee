"""The form of every fact."""

from typing import Any, ClassVar

from shared.wire import Model


class Fact(Model):
    """One thing that happened. Subclasses say `class X(Fact, kind="step.ended", version=1)`."""

    kind: ClassVar[str]
    fact_version: ClassVar[int]

    def __init_subclass__(cls, *, kind: str = "", version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.kind = kind
            cls.fact_version = version

    @classmethod
    def token(cls) -> str:
        """The kind as the last token of its subject."""
        return cls.kind.replace(".", "-")

    @classmethod
    def event_type(cls) -> str:
        """The CloudEvents `type`: `overspill.step.ended.v1`."""
        return f"overspill.{cls.kind}.v{cls.fact_version}"
