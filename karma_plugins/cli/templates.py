"""The pipelines that `karma init` writes: the repository's own files, which the wheel carries as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from karma_plugins.errors import KarmaError

#: Template -> the folder of the repository that it is.
TEMPLATES: Mapping[str, str] = {
    "zoo": ".",
    "hub": "examples/hub",
    "endpoint": "examples/endpoint",
    "recorded": "examples/recorded",
}
#: What of the top folder belongs to template `zoo`.
ZOO_FILES = ("dvc.yaml", "params.yaml")
#: Never part of a template: what a run of the example leaves behind, and what is the repository's own.
LEFT_OUT = frozenset({
    ".dvc", ".dvcignore", "README.md", ".karma", "__pycache__", "data", "dvc.lock", "imported",
    "karma.lock.json", "metrics", "mlruns", "plots", "stages",
})  # fmt: skip

PACKED = Path(__file__).parent.parent / "_pipelines"
REPOSITORY = Path(__file__).parent.parent.parent


def files(template: str) -> dict[Path, Path]:
    """Where each file of a template goes (relative to the user's folder) and where it comes from.

    Raises KarmaError where this installation carries no templates.
    """
    top = PACKED if PACKED.is_dir() else REPOSITORY
    if not (top / "dvc.yaml").is_file():
        raise KarmaError(
            f"No templates in {top}: karma-plugins was installed without them. Install its wheel again."
        )
    folder = top / TEMPLATES[template]
    sources = [folder / name for name in ZOO_FILES] if template == "zoo" else _walk(folder)
    found = {source.relative_to(folder): source for source in sources}
    stages = top / "stages"
    return found | {Path("stages") / path.relative_to(stages): path for path in sorted(stages.glob("*.py"))}


def gitignore(template: str) -> str:
    """What git must not carry of a pipeline: one static list, so that DVC adds none beside an out."""
    names = ["/data/", "/plots/", "/.karma/", "/mlflow.db*", "/mlruns/", "__pycache__/"]
    return "\n".join([*names, *(["/imported/"] if template == "recorded" else [])]) + "\n"


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name.startswith("mlflow.db"):
            continue
        found += [path] if path.is_file() else _walk(path)
    return found
