"""What one version writes against what another reads, by their JSON Schemas. Only the words that ours use are known."""

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaks(writes: Schema, reads: Schema) -> list[str]:
    """Why a reader of `reads` might not understand what is written by `writes`. Unknown fields of a reader that keeps
    them are no harm.
    """
    return list(_breaks(writes, writes, reads, reads, "", ()))


def _breaks(
    writes: Schema, w_root: Schema, reads: Schema, r_root: Schema, at: str, seen: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    pair = (writes.get("$ref", ""), reads.get("$ref", ""))
    if all(pair) and pair in seen:
        return
    seen = (*seen, pair) if all(pair) else seen
    writes, reads = _resolved(writes, w_root), _resolved(reads, r_root)
    for one in _alternatives(writes):
        against = [
            list(_one(_resolved(one, w_root), w_root, _resolved(other, r_root), r_root, at, seen))
            for other in _alternatives(reads)
        ]
        yield from min(against, key=len)


def _one(
    writes: Schema, w_root: Schema, reads: Schema, r_root: Schema, at: str, seen: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    if not _words(reads):
        return
    written, read = writes.get("type"), reads.get("type")
    if read is not None and written != read and (written, read) != ("integer", "number"):
        yield f"{at or '.'}: {written} is written, {read} is read"
        return
    known = _values(reads)
    if known is not None and not set(_values(writes) or [object()]) <= set(known):
        yield f"{at or '.'}: {_values(writes)} may be written, {known} is known"
    yield from _bounds(writes, reads, at)
    if "items" in reads:
        yield from _breaks(writes.get("items", {}), w_root, reads["items"], r_root, f"{at}[]", seen)
    yield from _fields(writes, w_root, reads, r_root, at, seen)


def _bounds(writes: Schema, reads: Schema, at: str) -> Iterator[str]:
    for word in _AT_LEAST:
        if word in reads and writes.get(word, float("-inf")) < reads[word]:
            yield f"{at or '.'}: {word} {reads[word]} is read, {writes.get(word)} may be written"
    for word in _AT_MOST:
        if word in reads and writes.get(word, float("inf")) > reads[word]:
            yield f"{at or '.'}: {word} {reads[word]} is read, {writes.get(word)} may be written"
    if "pattern" in reads and writes.get("pattern") != reads["pattern"]:
        yield f"{at or '.'}: the pattern {reads['pattern']} is read, {writes.get('pattern')} is written"


def _fields(
    writes: Schema, w_root: Schema, reads: Schema, r_root: Schema, at: str, seen: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    written, read = writes.get("properties", {}), reads.get("properties", {})
    for name in reads.get("required", ()):
        if name not in written or name not in writes.get("required", ()):
            yield f"{at}.{name}: is needed, and may be missing"
    for name in read.keys() & written.keys():
        yield from _breaks(written[name], w_root, read[name], r_root, f"{at}.{name}", seen)
    more_read, more_written = reads.get("additionalProperties", True), writes.get("additionalProperties", True)
    if more_read is False:
        for name in sorted(written.keys() - read.keys()):
            yield f"{at}.{name}: is written, and refused"
    elif isinstance(more_read, dict) and isinstance(more_written, dict):
        yield from _breaks(more_written, w_root, more_read, r_root, f"{at}.*", seen)


def complaints(schema: Schema, value: Any, root: Schema | None = None, at: str = "") -> Iterator[str]:
    """Why the reader of this schema does not take this value."""
    root = root if root is not None else schema
    schema = _resolved(schema, root)
    if len(_alternatives(schema)) > 1:
        yield from min((list(complaints(one, value, root, at)) for one in _alternatives(schema)), key=len)
        return
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        yield f"{at or '.'}: {value!r} is no {kind}"
        return
    known = _values(schema)
    if known is not None and value not in known:
        yield f"{at or '.'}: {value!r} is none of {known}"
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        yield f"{at or '.'}: {value!r} does not match {schema['pattern']}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from complaints(schema.get("items", {}), item, root, f"{at}[{index}]")
    if isinstance(value, dict):
        yield from _field_complaints(schema, value, root, at)


def _field_complaints(schema: Schema, value: dict[str, Any], root: Schema, at: str) -> Iterator[str]:
    fields, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name}: is missing"
    for name, item in value.items():
        if name in fields:
            yield from complaints(fields[name], item, root, f"{at}.{name}")
        elif more is False:
            yield f"{at}.{name}: is not known"
        elif isinstance(more, dict):
            yield from complaints(more, item, root, f"{at}.{name}")


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _words(schema: Schema) -> set[str]:
    return set(schema) - {"title", "description", "default"}


def written_by(model: Any) -> Schema:
    """What `shared.wire.encode` makes of the model: what is None is left out, everything else is there."""
    schema: Schema = model.model_json_schema(mode="serialization", by_alias=True)
    for part in (schema, *schema.get("$defs", {}).values()):
        if "required" in part:
            part["required"] = [name for name in part["required"] if not _nullable(part["properties"][name])]
        for name, field in part.get("properties", {}).items():
            part["properties"][name] = _without_null(field)
    return schema


def _nullable(field: Schema) -> bool:
    return any(one.get("type") == "null" for one in _alternatives(field))


def _without_null(field: Schema) -> Schema:
    if not _nullable(field):
        return field
    kept = [one for one in field["anyOf"] if one.get("type") != "null"]
    return {
        **{word: value for word, value in field.items() if word != "anyOf"},
        **({"anyOf": kept} if len(kept) > 1 else kept[0]),
    }


def read_by(model: Any) -> Schema:
    schema: Schema = model.model_json_schema(mode="validation", by_alias=True)
    return schema
