"""docs/api.md lists every problem with the status and title that the service answers with."""

import re

from app.http.problems import TABLE
from tests.conftest import ROOT

ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| (.+) \|$", re.MULTILINE)


def test_the_table_of_problems_is_that_of_the_service() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [(code, (int(status), title)) for status, code, title in ROW.findall(page)] == list(TABLE.items())
