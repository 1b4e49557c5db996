"""The web page as the service hands it out; tests/e2e/test_page.py uses it."""

import re
from collections.abc import Iterator, Mapping

import pytest
from fastapi.testclient import TestClient

from app.http import problems
from app.main import create_app
from app.models.loading import LoadedModel
from app.page.route import FOLDER
from app.settings import Settings
from model.contract import GRADES
from model.images import FORMATS, ImageWarning
from tests.app.test_keys import bearer, entry
from tests.app.test_pictures import problem

FILES = sorted(file.name for file in FOLDER.iterdir())
MODULES = {name for name in FILES if name.endswith(".js")}
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in FILES}
MOST_BYTES = 150_000
NEVER_TOLD_BY_SCORES = {
    "not_found",
    "method_not_allowed",
    "client_disconnected",
    "admin_key_required",
    "reload_failed",
    "stages_not_supported",
}


@pytest.fixture(scope="module")
def locked() -> Iterator[TestClient]:
    """A service that asks everybody for a key, and whose models cannot be loaded."""

    def load(_: Settings) -> Mapping[str, LoadedModel]:
        raise OSError

    settings = Settings(api_keys=(entry("ann", "a-key"),), probes_key=True, metrics_key=True)
    with TestClient(create_app(settings, load=load)) as client:
        yield client


def words(table: str) -> Mapping[str, str]:
    """The entries of one table in ``words.js``."""
    body = re.search(rf"const {table} = {{\n(.*?)\n}};", TEXTS["words.js"], re.DOTALL)
    assert body
    return dict(re.findall(r'^  "?(\w+)"?:\s+(["`].*?["`](?: \+\n +["`].*?["`])*),$', body[1], re.MULTILINE))


def test_the_page_needs_neither_a_key_nor_a_model(locked: TestClient) -> None:
    problem(locked.get("/models"), 401, "missing_key")
    for path in ("/", *(f"/page/{name}" for name in FILES)):
        response = locked.get(path)
        assert response.status_code == 200, path
        assert response.text == TEXTS[path.rpartition("/")[2] or "index.html"]
        assert locked.head(path).status_code == 200


def test_it_is_served_while_the_service_drains(client: TestClient) -> None:
    client.app.state.service.drain()  # type: ignore[attr-defined]
    assert client.get("/health/ready").status_code == 503
    assert client.get("/").status_code == 200


def test_files_have_their_types(locked: TestClient) -> None:
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in FILES:
        sent = locked.get(f"/page/{name}").headers["content-type"].partition(";")[0]
        assert sent == types[name.rpartition(".")[2]], name


def test_nothing_but_its_own_files_may_run_or_be_shown(locked: TestClient) -> None:
    for path in ("/", "/page/page.js"):
        response = locked.get(path)
        policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        sources = {name: set(value.split()) for name, value in policy.items() if name.endswith("-src")}
        assert sources.pop("img-src") == {"'self'", "blob:"}
        assert all(value in ({"'self'"}, {"'none'"}) for value in sources.values())
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_it_holds_no_inline_code_and_no_address_of_elsewhere() -> None:
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", TEXTS["index.html"])
    for name, text in TEXTS.items():
        elsewhere = set(re.findall(r"(?:https?:)?//[a-z][\w.]+\.\w+[^\s\"'<]*", text)) - {"http://www.w3.org/2000/svg"}
        assert not elsewhere, name
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", "".join(TEXTS.values()))


def test_it_is_asked_for_again_by_its_tag(locked: TestClient) -> None:
    first = locked.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = locked.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert locked.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["missing.js", "", "..%2Fmain.py", "%2e%2e/main.py", "..%5Cmain.py", "%00", "a/b"])
def test_there_is_nothing_else(locked: TestClient, path: str) -> None:
    problem(locked.get(f"/page/{path}"), 404, "not_found")


def test_it_is_small(locked: TestClient) -> None:
    assert sum(len(locked.get(f"/page/{name}").content) for name in FILES) < MOST_BYTES


def test_all_modules_are_asked_for_at_once() -> None:
    preloaded = set(re.findall(r'<link rel="modulepreload" href="page/(\w+\.js)">', TEXTS["index.html"]))
    assert preloaded == MODULES - {"page.js"}
    imported = {name for module in MODULES for name in re.findall(r'from "\./(\w+\.js)";', TEXTS[module])}
    assert imported == preloaded


def test_it_is_no_part_of_the_api(locked: TestClient) -> None:
    paths = locked.get("/openapi.json", headers=bearer("a-key")).json()["paths"]
    assert "/score" in paths
    assert not [path for path in paths if path == "/" or path.startswith("/page")]


def test_every_warning_has_words() -> None:
    told = [*words("CAUTIONS"), *words("CONVERSIONS")]
    assert sorted(told) == sorted(ImageWarning)


def test_every_problem_of_a_score_has_words() -> None:
    assert problems.TABLE.keys() - NEVER_TOLD_BY_SCORES <= words("PROBLEMS").keys()
    assert words("PROBLEMS").keys() - problems.TABLE.keys() == {"unreachable", "unreadable"}


def test_every_grade_has_words() -> None:
    assert tuple(words("GRADES")) == GRADES


def test_the_accepted_formats_are_named() -> None:
    for text in (TEXTS["words.js"], TEXTS["index.html"]):
        named = text.upper().replace("JPEG XL", "JXL").replace("JPEG 2000", "JPEG2000")
        assert set(FORMATS) <= set(re.findall(r"\w+", named))
    accepted = re.findall(r'id="files"[^>]* accept="([^"]+)"', TEXTS["index.html"])
    types = {"HEIC": "heic,image/heif", "JPEG2000": "jp2"}
    assert accepted == [",".join(f"image/{types.get(name, name.lower())}" for name in FORMATS)]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_only_takes_reads(locked: TestClient, method: str) -> None:
    problem(locked.request(method, "/"), 405, "method_not_allowed")


def test_requests_for_it_are_counted_by_route(client: TestClient) -> None:
    for path in ("/", "/page/page.css", "/page/missing.css"):
        client.get(path)
    lines = client.get("/metrics").text.splitlines()
    counted = {line for line in lines if line.startswith("smartiqa_requests_total") and "/page" in line}
    assert counted == {
        'smartiqa_requests_total{code="200",route="/page/{name}"} 1.0',
        'smartiqa_requests_total{code="404",route="/page/{name}"} 1.0',
    }
