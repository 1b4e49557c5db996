"""What hatchling does while it builds a wheel: the imports of the packages follow them below ``smart_iqa``.

Names such as ``model`` and ``app`` would collide with the user's own. ``pyproject.toml`` moves the folders; here
``from model.score import QualityScore`` becomes ``from smart_iqa.model.score import QualityScore``, on the same line.
"""

import ast
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

PACKAGE = "smart_iqa"
BELOW = ("app", "cli", "model", "training")


def rewritten(source: bytes, file: str) -> bytes:
    """A module with imports of the packages from where they lie in a wheel.

    Args:
        source: The module, UTF-8.
        file: Its name in messages.

    Raises:
        ValueError: It imports a package in a way that is not rewritten: ``import model.score``.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), level=0) if _top(module) in BELOW:
                old, new = f"from {module} import ", f"from {PACKAGE}.{module} import "
            case ast.Import(names=[ast.alias(name=module)]) if module in BELOW:
                old, new = f"import {module}", f"from {PACKAGE} import {module}"
            case ast.Import(names=names) if any(_top(alias.name) in BELOW for alias in names):
                old = new = f"from {PACKAGE} import "
            case _:
                continue
        line, column = lines[node.lineno - 1], node.col_offset
        if not line.startswith(old.encode(), column):
            raise ValueError(f"{file}:{node.lineno}: this import cannot be rewritten for a wheel")
        lines[node.lineno - 1] = line[:column] + new.encode() + line[column + len(old) :]
    return b"".join(lines)


def _top(module: str) -> str:
    return module.partition(".")[0]


class OnePackage(BuildHookInterface[WheelBuilderConfig]):
    """Puts rewritten modules into the wheel in place of the repository's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write them into a folder that lasts as long as the build; an editable installation uses the repository's."""
        self._folder = tempfile.TemporaryDirectory()
        if version == "editable":
            return
        for file in self.build_config.builder.recurse_selected_project_files():
            if file.path.endswith(".py"):
                made = Path(self._folder.name, file.distribution_path)
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_bytes(rewritten(Path(file.path).read_bytes(), file.relative_path))
                build_data["force_include"][str(made)] = file.distribution_path

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the folder."""
        self._folder.cleanup()
