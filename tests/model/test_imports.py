"""What can be imported without torch: it takes a second and 200 MB, which many processes have no use for."""

import subprocess
import sys

from tests.conftest import ROOT

WITHOUT_TORCH = (
    "from model import QualityScore",
    "from smart_iqa import QualityScore",
    "import model.score",
    "import model.options",
    "import model.crop_rounds",
    "import model.maps.map_crops",
    "import model.maps.overlay",
    "import model.inference.allocator",
    "import app.settings",
    "import app.observability.logs",
    "import app.observability.tracing",
    "import app.batching.batcher",
    "import app.decode.decoder",
    "import app.decode.sandbox_worker",
    "import app.scoring.cache",
    "import cli.main",
)


def test_these_load_no_torch() -> None:
    script = "import sys\n" + "".join(
        f"{line}\nassert 'torch' not in sys.modules, {line!r}\n" for line in WITHOUT_TORCH
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
