"""The reference of the routes, written from ``docs/openapi.json`` when the site is built.

It is plain Markdown in the place of a comment in ``docs/api.md``, so whoever reads it needs no script from elsewhere.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

DOCUMENT = Path(__file__).resolve().parents[1] / "openapi.json"
PLACE = "<!-- reference -->"
CODE = re.compile(r"`(\w+)`: ([^;]+)")

Json = dict[str, Any]


def on_page_markdown(markdown: str, *, page: "Page", **_: object) -> str:
    """Put the reference into its page; called by mkdocs."""
    if page.file.src_uri != "api.md":
        return markdown
    assert markdown.count(PLACE) == 1, "the page of the API has one place for the reference"
    return markdown.replace(PLACE, reference(json.loads(DOCUMENT.read_text(encoding="utf-8"))))


def reference(document: Json) -> str:
    """Describe routes and JSON objects as Markdown.

    Args:
        document: An OpenAPI document of the service.
    """
    lines: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _route(f"{method.upper()} {path}", operation)
    lines += ["### Objects", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"#### {name}", "", schema.get("description", ""), "", *_fields(schema), ""]
    return "\n".join(lines)


def _route(title: str, operation: Json) -> Iterator[str]:
    yield from (f"### {title}", "", operation["description"], "")
    if "requestBody" in operation:
        body = operation["requestBody"]
        yield from (body.get("description", "The body:"), "")
        yield from (f"- `{media}`{_object(content['schema'])}" for media, content in body["content"].items())
        yield ""
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | values | meaning |", "|---|---|---|---|")
        for parameter in parameters:
            name = f"`{parameter['name']}`" + (" (required)" if parameter["required"] else "")
            values = _values(parameter["schema"])
            yield f"| {name} | {parameter['in']} | {values} | {_cell(parameter.get('description', ''))} |"
        yield ""
    yield from ("| answer | what |", "|---|---|")
    for status, answer in operation["responses"].items():
        codes = ", ".join(f"`{code}`" for code, _ in CODE.findall(answer["description"]))
        described = _cell(answer["description"]).removeprefix("Successful Response")
        kinds = ", ".join(f"`{media}`{_object(content['schema'])}" for media, content in _content(answer).items())
        yield f"| {status} | {codes or ': '.join(filter(None, (described, kinds)))} |"
    yield ""


def _content(answer: Json) -> Json:
    content: Json = answer.get("content", {})
    return content


def _object(schema: Json) -> str:
    """Link to the object that a schema is, if it is one."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return f" ([{name}](#{name.lower()}))" if name else ""


def _fields(schema: Json) -> Iterator[str]:
    needed = schema.get("required", [])
    yield from ("| field | values | meaning |", "|---|---|---|")
    for name, field in schema.get("properties", {}).items():
        optional = "" if name in needed else " (may be missing)"
        yield f"| `{name}`{optional} | {_values(field)} | {_cell(field.get('description', ''))} |"


def _values(schema: Json) -> str:
    """What a schema allows, in a few words."""
    if "$ref" in schema:
        return _object(schema).strip(" ()")
    if kinds := schema.get("anyOf"):
        return " or ".join(_values(kind) for kind in kinds)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        kinds = schema.get("prefixItems", [schema["items"]] if "items" in schema else [])
        return "list of " + " or ".join(dict.fromkeys(_values(kind) for kind in kinds)) if kinds else "list"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join((str(schema.get("type", "any")), *bounds))


def _cell(text: str) -> str:
    """Keep a text within its cell of a table."""
    return text.replace("\n", " ").replace("|", "\\|")
