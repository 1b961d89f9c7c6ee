"""Models that travel on the bus, and their way to bytes and back."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import Poison

M = TypeVar("M", bound="Model")


class Model(BaseModel):
    """A fact, a part of one, a request or a reply: frozen; unknown keys are kept on read and refused on write."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, defer_build=True)


def encode(model: Model) -> bytes:
    """Compact JSON without the absent. Raises ValueError when a writer invents fields the model does not declare."""
    if model.__pydantic_extra__:
        raise ValueError(f"{type(model).__name__} has no field {', '.join(sorted(model.__pydantic_extra__))}")
    return model.model_dump_json(exclude_none=True, by_alias=True).encode()


def decode(model: type[M], data: bytes) -> M:
    """Raises Poison with the first thing that is wrong."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = " ".join([model.__name__, ".".join(str(part) for part in first["loc"])]).strip()
        raise Poison(why=f"{where}: {first['msg']}") from error
