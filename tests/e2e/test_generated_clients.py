"""Clients that generators make from the OpenAPI document compile, and score a photo to the last digit.

The tools have to be on the path: openapi-python-client in an environment of its own, since it wants an older typer; for
Go and TypeScript openapi-generator-cli (on PyPI and npm, and Java), go, and tsc and node.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, ROOT
from tests.e2e.conftest import Launch, Service

DOCUMENT = ROOT / "docs" / "openapi.json"
PHOTO = EXAMPLES[0]

# Each prints the scores of the photo: alone, and of two in one request; and the size of its overlay.
PYTHON = """
import json, sys
from made import Client
from made.api.scores import overlay, score, score_batch
from made.models import ScoreBatchBody, ScoreFilesBody
from made.types import File
client = Client(base_url=sys.argv[1])
data = open(sys.argv[2], "rb").read()
file = File(payload=data, file_name="photo")
one = score.sync(client=client, body=ScoreFilesBody(file=file))
raw = score.sync(client=client, body=File(payload=data))
both = score_batch.sync(client=client, body=ScoreBatchBody(file=[file, file]))
assert raw.score == one.score and one.image.format_.value == "JPEG"
drawn = overlay.sync_detailed(client=client, body=File(payload=data))
print(json.dumps([one.score, *(item.result.score for item in both.results), len(drawn.content)]))
"""
GO = """
package main

import (
    "context"
    "encoding/json"
    "io"
    "os"

    made "example.com/made"
)

func open() *os.File {
    file, err := os.Open(os.Args[2])
    if err != nil { panic(err) }
    return file
}

func main() {
    configuration := made.NewConfiguration()
    configuration.Servers[0].URL = os.Args[1]
    api, ctx := made.NewAPIClient(configuration).ScoresAPI, context.Background()
    one, _, err := api.Score(ctx).File(open()).Execute()
    if err != nil { panic(err) }
    both, _, err := api.ScoreBatch(ctx).File([]*os.File{open(), open()}).Execute()
    if err != nil { panic(err) }
    drawn, _, err := api.Overlay(ctx).File(open()).Execute()
    if err != nil { panic(err) }
    png, err := io.ReadAll(drawn)
    if err != nil { panic(err) }
    first, second := both.Results[0].Result.Get(), both.Results[1].Result.Get()
    json.NewEncoder(os.Stdout).Encode([]any{one.Score, first.Score, second.Score, len(png)})
}
"""
TYPESCRIPT = """
import { Configuration, ScoresApi } from "./made";
declare const require: any, process: any;
async function main() {
  const api = new ScoresApi(new Configuration({ basePath: process.argv[2] }));
  const file = new Blob([require("node:fs").readFileSync(process.argv[3])]);
  const one = await api.score({ file });
  const both = await api.scoreBatch({ file: [file, file] });
  const png = await api.overlay({ file });
  console.log(JSON.stringify([one.score, ...both.results.map((item) => item.result?.score), png.size]));
}
main();
"""


@pytest.fixture(scope="module")
def service(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with launch(tmp_path_factory.mktemp("service") / "log") as service:
        yield service


@pytest.fixture(scope="module")
def expected(service: Service) -> list[float]:
    data = PHOTO.read_bytes()
    score = service.post(data).json()["score"]
    return [score, score, score, len(service.post(data, "/attention/overlay").content)]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_python(service: Service, expected: list[float], tmp_path: Path) -> None:
    generator = tool("openapi-python-client")
    options = ("--path", DOCUMENT, "--meta", "none", "--output-path", tmp_path / "made")
    run(generator, "generate", *options, cwd=tmp_path)
    # What it makes needs httpx and attrs, which are where the generator is.
    python = Path(generator).resolve().parent / "python"
    assert json.loads(run(python, "-c", PYTHON, service.url, PHOTO, cwd=tmp_path)) == expected


def test_go(service: Service, expected: list[float], tmp_path: Path) -> None:
    generator, go = tool("openapi-generator-cli"), tool("go")
    run(generator, "generate", "-i", DOCUMENT, "-g", "go", "-o", "made", "-p", "packageName=made", cwd=tmp_path)
    module = tmp_path / "made"
    (module / "go.mod").write_text("module example.com/made\n\ngo 1.23\n", encoding="utf-8")
    shutil.rmtree(module / "test")  # it needs a package from elsewhere
    (module / "main").mkdir()
    (module / "main" / "main.go").write_text(GO, encoding="utf-8")
    assert json.loads(run(go, "run", "./main", service.url, PHOTO, cwd=module)) == expected


def test_typescript(service: Service, expected: list[float], tmp_path: Path) -> None:
    generator, tsc, node = tool("openapi-generator-cli"), tool("tsc"), tool("node")
    run(generator, "generate", "-i", DOCUMENT, "-g", "typescript-fetch", "-o", "made", cwd=tmp_path)
    (tmp_path / "main.ts").write_text(TYPESCRIPT, encoding="utf-8")
    options = ("--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "commonjs")
    run(tsc, *options, "main.ts", cwd=tmp_path)
    assert json.loads(run(node, "main.js", service.url, PHOTO, cwd=tmp_path)) == expected
