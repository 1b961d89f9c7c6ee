"""From YAML or JSON text to a JobSpec, or to one clear line that names the remedy."""

import difflib
import re
import types
import typing
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from shared.errors import Rejected
from shared.spec import SPEC_LIMIT_BYTES, GitSource, JobSpec, TreeSource


class SpecRefused(Rejected):
    """{why}"""

    code = "spec_refused"
    status = 422


def read_spec(text: str | bytes) -> JobSpec:
    """Raises SpecRefused."""
    return admit_spec(read_raw(text))


def read_raw(text: str | bytes) -> Any:
    """YAML (or JSON) as it is written, not yet a spec. Raises SpecRefused."""
    if len(text) > SPEC_LIMIT_BYTES:
        raise SpecRefused(
            why=f"the spec has {len(text)} bytes, the limit is {SPEC_LIMIT_BYTES}: move long scripts into the source"
        )
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that refuses aliases and duplicate keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecRefused(why=f"the spec is no YAML: {where}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecRefused(
            why=f"the spec is no YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return raw


def admit_spec(raw: Any) -> JobSpec:
    """A spec from parsed YAML or JSON. Raises SpecRefused."""
    if not isinstance(raw, dict):
        raise SpecRefused(why="the spec must be a mapping with at least `steps:`; see `overspill schema`")
    try:
        return JobSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecRefused(why=explain(error)) from error


def explain(error: ValidationError) -> str:
    """The most telling of the errors as one line."""
    problems = error.errors(include_url=False, include_input=False)
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    path = list(problem["loc"])
    where = _where(path)
    match problem["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_did_you_mean(path)}"
        case "missing":
            return f"{where}: is missing"
        case _:
            message = problem["msg"].removeprefix("Value error, ")
            return f"{where}: {message}" if where else message


def _where(path: list[str | int]) -> str:
    """`steps[2].run`; names of union branches, which pydantic puts in between, are left out."""
    text = ""
    for at, part in enumerate(path):
        if isinstance(part, int):
            text += f"[{part}]"
        elif part in _BRANCHES or "[" in part or _is_tag(path, at):
            continue
        else:
            text += f".{part}" if text else part
    return text


_BRANCHES = frozenset({"sized", "named"})
_SOURCE_MODELS: dict[str | int, type[BaseModel]] = {"tree": TreeSource, "git": GitSource}


def _is_tag(path: list[str | int], at: int) -> bool:
    """Pydantic names the source's kind between `source` and the key inside it."""
    return at == 1 and path[0] == "source"


def _did_you_mean(path: list[str | int]) -> str:
    model = _model_at(path[:-1])
    keys = [field.alias or name for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(str(path[-1]), keys, n=1, cutoff=0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known are {', '.join(keys)}"


def _model_at(path: list[str | int]) -> type[BaseModel]:
    model: type[BaseModel] = JobSpec
    if len(path) > 1 and path[0] == "source":
        return _SOURCE_MODELS.get(path[1], GitSource)
    for part in path:
        if isinstance(part, int) or part in _BRANCHES:
            continue
        by_key = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        found = _models_in(by_key.get(part))
        if found:
            model = next((m for m in found if m.__name__ in path), found[0])
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (list, typing.Union, types.UnionType, typing.Annotated):
        return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]
    return []


class _Loader(yaml.SafeLoader):
    """Refuses what makes small files huge (aliases) and what hides mistakes (duplicate keys)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not allowed; write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} must be text; quote it", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `on:`, `yes` and `no` as booleans, and 12:30 as a number in base 60; the spec wants YAML 1.2's rules.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False|TRUE|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
