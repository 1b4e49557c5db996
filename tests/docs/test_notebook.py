"""The notebook: it runs as it is, and it is kept without what a run leaves in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

FILE = ROOT / "docs" / "inside.ipynb"
PLOTS = {"scores", "defects", "map", "stages", "activity", "worse", "lines"}


def read(file: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return notebook


def test_it_runs(tmp_path: Path) -> None:
    done = tmp_path / "done.ipynb"
    # It imports from here, and leaves nothing in the user's folders.
    folders = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(folders, str(tmp_path))}
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", str(FILE), "--output", str(done)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    outputs = [
        (cell["id"], output)
        for cell in read(done)["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert {cell for cell, output in outputs if "image/png" in output.get("data", {})} == PLOTS
    # Warnings would be shown to whoever opens it.
    assert [output["text"] for _, output in outputs if output.get("name") == "stderr"] == []


def test_it_is_kept_without_outputs_and_without_traces_of_a_machine() -> None:
    notebook = read(FILE)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    sources = "".join(line for cell in notebook["cells"] for line in cell["source"])
    assert re.findall(r"""["'\s](?:/|~|[A-Z]:\\)\w+""", sources) == []
