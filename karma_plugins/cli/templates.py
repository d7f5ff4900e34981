"""The pipelines that `karma init` writes: the repository's own files, which the wheel carries as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from karma_plugins.errors import KarmaError


@dataclass(frozen=True, slots=True)
class Template:
    """A pipeline to start from: which folder of the repository it is, what it is for, what to run next."""

    folder: str
    summary: str
    steps: tuple[str, ...] = ("karma check", "dvc repro")
    #: Files of the folder that belong to it; empty for all of them.
    only: tuple[str, ...] = ()
    #: Where its README lies, if not in the folder.
    readme: str = ""
    #: What git must not carry beside what no template's pipeline carries.
    ignored: tuple[str, ...] = ()


TEMPLATES = {
    "zoo": Template(
        ".", "tiny models that are trained on the spot: five minutes, offline",
        only=("dvc.yaml", "params.yaml"), readme="examples/zoo/README.md",
    ),
    "hub": Template("examples/hub", "models of the Hugging Face hub, or folders of weights"),
    "endpoint": Template("examples/endpoint", "models behind an OpenAI-compatible server"),
    "recorded": Template(
        "examples/recorded", "answers, verdicts and scores that exist already",
        steps=("karma import auto PATH --out imported", "karma check", "dvc repro"), ignored=("/imported/",),
    ),
}  # fmt: skip
#: Never part of a template: what a run of the example leaves behind, and what is the repository's own.
LEFT_OUT = frozenset({
    ".dvc", ".dvcignore", ".karma", "__pycache__", "data", "dvc.lock", "imported",
    "karma.lock.json", "metrics", "mlruns", "plots", "stages",
})  # fmt: skip
README = Path("README.md")

PACKED = Path(__file__).parent.parent / "_pipelines"
REPOSITORY = Path(__file__).parent.parent.parent


def files(name: str) -> dict[Path, str]:
    """The text of each file of a template, by where it goes (relative to the pipeline's folder).

    Raises KarmaError where this installation carries no templates.
    """
    top = PACKED if PACKED.is_dir() else REPOSITORY
    if not (top / "dvc.yaml").is_file():
        raise KarmaError(
            f"No templates in {top}: karma-plugins was installed without them. Install its wheel again."
        )
    template = TEMPLATES[name]
    folder = top / template.folder
    sources = {p.relative_to(folder): p for p in _walk(folder, template.only)}
    if template.readme:
        sources[README] = top / template.readme
    sources |= {Path("stages") / path.name: path for path in sorted((top / "stages").glob("*.py"))}
    return {target: source.read_text(encoding="utf-8") for target, source in sources.items()}


def gitignore(name: str) -> str:
    """What git must not carry of a pipeline: one static list, so that DVC adds none beside an out."""
    names = ["/data/", "/plots/", "/.karma/", "/mlflow.db*", "/mlruns/", "/dvc_plots/", "__pycache__/"]
    return "\n".join([*names, *TEMPLATES[name].ignored]) + "\n"


def _walk(folder: Path, only: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(folder / name for name in only) if only else sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name.startswith("mlflow.db"):
            continue
        if path.is_file():
            yield path
        else:
            yield from _walk(path, ())
