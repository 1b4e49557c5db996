"""Reads answers: from decoded JSON to the dataclasses of ``answers``, by their type hints."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from smart_iqa_client.answers import Score
from smart_iqa_client.errors import BadAnswer, Problem, problem_class
from smart_iqa_client.together import Comparison, Picks

T = TypeVar("T")
Together = TypeVar("Together", Comparison, Picks)


def parse(kind: type[T], data: object) -> T:
    """Read an answer.

    Args:
        kind: One of the classes of ``answers``.
        data: Decoded JSON.

    Raises:
        BadAnswer: A field is missing or of another type.
    """
    made: T = _read(kind, data, kind.__name__)
    return made


def parse_together(kind: type[Together], data: object) -> Together:
    """Read an answer about several pictures together, in which each has a score or a problem of its own.

    Args:
        kind: Its class.
        data: Decoded JSON.

    Raises:
        BadAnswer: A field is missing or of another type.
    """
    told = dict(_expect(dict, data, kind.__name__))
    items = _expect(list, told.pop("results", None), f"{kind.__name__}.results")
    made = parse(kind, told)
    results = tuple(_result(item, f"{kind.__name__}.results.{place}") for place, item in enumerate(items))
    return dataclasses.replace(made, results=results, json=_expect(dict, data, kind.__name__))


def _result(item: Any, place: str) -> Score | Problem:
    if "result" in _expect(dict, item, place):
        return parse(Score, item["result"])
    told = _expect(dict, item.get("problem"), place)
    status, code, title = int(told.get("status", 0)), str(told.get("code", "")), str(told.get("title", ""))
    detail, request_id = str(told.get("detail", "")), str(told.get("request_id", ""))
    return problem_class(status, code)(status, code, title, detail, request_id)


def _read(kind: Any, data: Any, place: str) -> Any:
    """Bring a JSON value into the form that a type hint asks for."""
    if dataclasses.is_dataclass(kind):
        return _read_object(kind, _expect(dict, data, place), place)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):  # all here are "X | None" or "float | str"
        first, other = get_args(kind)
        if data is None and other is type(None):
            return None
        return _read(other if other is not type(None) and isinstance(data, other) else first, data, place)
    if origin is tuple:
        first, *rest = get_args(kind)
        items = _expect(list, data, place)
        if Ellipsis not in rest and len(items) != 1 + len(rest):
            raise BadAnswer(f"{place} is not of {1 + len(rest)} items")
        return tuple(_read(first, item, place) for item in items)
    if origin is Mapping and get_args(kind)[1] is not Any:
        entries = _expect(dict, data, place)
        return {name: _read(get_args(kind)[1], one, f"{place}.{name}") for name, one in entries.items()}
    if kind is float:
        return float(_expect((int, float), data, place))
    return _expect(origin or kind, data, place)


def _read_object(kind: Any, data: Mapping[str, Any], place: str) -> Any:
    values: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        if one.name == "json":
            values["json"] = data
        elif one.name in data:
            values[one.name] = _read(_hints(kind)[one.name], data[one.name], f"{place}.{one.name}")
        elif one.default is dataclasses.MISSING:
            raise BadAnswer(f"{place}.{one.name} is missing")
    return kind(**values)


def _expect(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise BadAnswer(f"{place} is of another type")
    return data


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
