"""What generators of clients need of the OpenAPI document; tests/e2e/test_generated_clients.py runs some."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from app.http.problems import TABLE
from model.contract import GRADES
from model.defects import DEFECTS
from model.images import FORMATS, ImageWarning
from model.policies import Outcome
from tests.conftest import ROOT

DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from schemas(part)
    elif isinstance(node, list):
        for part in node:
            yield from schemas(part)


def values(of: str, field: str) -> set[str]:
    """All that a field may have."""
    schema = DOCUMENT["components"]["schemas"][of]["properties"][field]
    return {value for part in schemas(schema) for value in part.get("enum", ())}


def test_operations_have_short_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)?", name) for name in names)
    assert {"score", "score_batch", "compare", "pick", "attention", "overlay", "models", "ready"} <= set(names)


def test_a_success_has_one_media_type() -> None:
    for name, operation in OPERATIONS.items():
        kinds = [[*answer.get("content", {})] for status, answer in operation["responses"].items() if status < "300"]
        assert [len(kind) for kind in kinds] == [1], name


def test_words_from_a_list_are_listed() -> None:
    assert values("ProblemBody", "code") == set(TABLE)
    assert values("ScoreAnswer", "grade") == values("AttentionAnswer", "grade") == set(GRADES)
    assert values("ScoreAnswer", "warnings") == set(ImageWarning)
    assert values("ImageFacts", "format") == set(FORMATS)
    assert values("DifferenceAnswer", "defect") == values("WorseAnswer", "defect") == set(DEFECTS)
    for schema, field in (("DecisionAnswer", "outcome"), ("PolicyRule", "outcome"), ("PolicyFacts", "otherwise")):
        assert values(schema, field) == set(get_args(Outcome))


def test_arrays_of_files_have_no_bounds() -> None:
    """Go's generator would take the length of a pointer."""
    arrays = [
        part
        for operation in OPERATIONS.values()
        for part in schemas(operation.get("requestBody", {}))
        if part.get("type") == "array" and part["items"].get("format") == "binary"
    ]
    assert len(arrays) == 3
    assert not [part for part in arrays if part.keys() & {"minItems", "maxItems"}]


def test_numbers_are_of_double_precision() -> None:
    """They would be of single precision in Go and Java, where scores would lose digits."""
    numbers = [part for part in schemas(DOCUMENT["components"]["schemas"]) if part.get("type") == "number"]
    assert len(numbers) > 20
    assert {part.get("format") for part in numbers} == {"double"}
