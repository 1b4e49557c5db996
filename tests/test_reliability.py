"""docs/reliability.md names tests; they exist."""

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_every_path_of_a_test_names_one() -> None:
    assert NAMED
    # Whatever begins like the name of a test has the form that is looked for below.
    mentions = re.findall(r"tests/[^\s`]*::[^\s`,;|)]*", PAGE)
    assert {mention.partition("::")[::2] for mention in mentions} == set(NAMED)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part)
def test_tests_that_are_named_exist(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name.startswith("test_")
    assert name in functions
