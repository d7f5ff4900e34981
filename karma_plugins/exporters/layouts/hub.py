"""Export as a folder that `hf upload` (huggingface_hub) takes as a dataset repository: shards and a card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from karma_plugins import params
from karma_plugins.contracts import Exporter, Options, Tables, hookimpl
from karma_plugins.curriculum import Curriculum
from karma_plugins.curriculum.card import Provenance, card, judge_versions
from karma_plugins.errors import ParamsError, TableError
from karma_plugins.exporters import fresh
from karma_plugins.exporters.licences import checked
from karma_plugins.params import yaml
from karma_plugins.texts import records
from karma_plugins.texts.filters import languages

#: Pairs to a file: well below the size from which the hub asks for smaller files.
SHARD = 200_000


class HubOptions(Options):
    """What the card says beside the counts."""

    report: Path = Field(Path("metrics/curriculum.json"), description="stage curriculum's report")
    licence: str | None = Field(
        None,
        validation_alias=AliasChoices("licence", "license"),
        description="licence of the dataset, such as cc-by-4.0 [default: curriculum.licence]",
    )
    source_licence: tuple[str, ...] = Field(
        (), description="NAME=LICENCE, the licence of a source; repeat it"
    )
    language: tuple[str, ...] = Field(
        (), description="its language as ISO 639-1, such as en; repeat it [default: as detected]"
    )
    note: tuple[str, ...] = Field((), description="a sentence to add to the card; repeat it")
    lock: Path = Field(Path("dvc.lock"), description="where the hashes of the inputs are")
    shard: int = Field(SHARD, ge=1, description="pairs to a file")


def write(tables: Tables, out: Path, options: HubOptions) -> str:
    """Write README.md and `data/train-00000-of-00001.parquet` …, in curriculum order.

    The card holds counts, distributions, judges with their bias report, languages, licences and dvc.lock's
    hashes. Raises TableError where the report or dvc.lock is not what its stage wrote.
    """
    pairs = tables.read("pairs").sort("order")
    settings = params.load("curriculum", params.CurriculumSection)
    licences = dict(_named(source) for source in options.source_licence)
    for source, licence in licences.items():
        checked(licence, f"--source-licence {source}")
    if licence := options.licence or settings.licence:
        checked(licence, "--licence" if options.licence else "params.yaml, curriculum.licence")
    named = _languages(options)
    by_id = pairs.unique("prompt_id").sort("prompt_id")  # ids are hashes: the first are as good as drawn
    provenance = Provenance(
        hashes=_hashes(options.lock),
        judges=judge_versions(tables.read("judges")),
        bias=tables.read("bias"),
        licences=licences,
        languages={} if named else languages(by_id["prompt"].list.last().struct.field("content")),
        named=named,
        notes=options.note,
    )
    settings = settings.model_copy(update={"licence": options.licence}) if options.licence else settings
    curriculum = Curriculum(pairs, _report(options.report))
    try:
        text = card(curriculum, settings, provenance, data_files="data/train-*.parquet")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(_no_report(options.report, f"{type(error).__name__}: {error}")) from error
    shards = max(1, -(-pairs.height // options.shard))
    (fresh(out) / "data").mkdir(parents=True)
    for i in range(shards):
        part = pairs.slice(i * options.shard, options.shard)
        part.write_parquet(out / "data" / f"train-{i:05d}-of-{shards:05d}.parquet", compression="zstd")
    (out / "README.md").write_text(text, encoding="utf-8")
    return (
        f"{out}: {pairs.height} pairs, data files: {shards}, and a card. Read it before you upload:\n"
        f"hf upload --repo-type dataset NAME {out}"
    )


def _languages(options: HubOptions) -> tuple[str, ...]:
    """The languages that were named; ParamsError where one is no code."""
    if wrong := [name for name in options.language if not re.fullmatch(r"[a-z]{2,3}", name)]:
        raise ParamsError(f"--language {wrong[0]}: is no code of ISO 639, such as en.")
    return options.language


def _report(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TableError(_no_report(path, "no such file"))
    try:
        report = records.document(path)
    except TableError as error:
        raise TableError(_no_report(path, str(error))) from error
    if not isinstance(report, dict):
        raise TableError(_no_report(path, f"it holds a {type(report).__name__}"))
    return report


def _no_report(path: Path, why: str) -> str:
    return f"{path}: not the report of stage curriculum ({why}). Run `dvc repro curriculum`."


def _hashes(lock: Path) -> dict[str, str]:
    """What dvc.lock records of the stage that made the pairs: its dependencies' hashes and its own."""
    if not lock.exists():
        return {}
    document = _locked(lock)
    for stage in document.values():
        outs, deps = (stage.get(side) or [] for side in ("outs", "deps"))
        if any(Path(out["path"]).name == "pairs" for out in outs):
            return {item["path"]: item["md5"] for item in [*deps, *outs] if "md5" in item}
    return {}


def _locked(lock: Path) -> dict[str, Any]:
    """The stages of dvc.lock; TableError where it is not what DVC writes."""
    cure = "Mend it, or make it again with `dvc commit`."
    try:
        document = yaml.read(lock)
    except (OSError, yaml.YamlError) as error:
        raise TableError(f"{lock}: not readable as YAML ({error}). {cure}") from error
    stages = document.get("stages") if isinstance(document, dict) else None
    usual = isinstance(stages, dict) and all(
        isinstance(stage, dict)
        and all(
            isinstance(item, dict) and isinstance(item.get("path"), str)
            for side in ("outs", "deps")
            for item in stage.get(side) or []
        )
        for stage in stages.values()
    )
    if not isinstance(stages, dict) or not usual:
        raise TableError(f"{lock}: is no lock file of DVC (no stages with their files). {cure}")
    return stages


def _named(source: str) -> tuple[str, str]:
    name, equals, licence = source.partition("=")
    if not equals or not name or not licence:
        raise ParamsError(f"--source-licence '{source}': write NAME=LICENCE, such as prompts=apache-2.0.")
    return name, licence


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `hub`."""
    summary = "A folder to upload to a hub, with a card that says where the data comes from."
    return [Exporter(name="hub", write=write, options=HubOptions, summary=summary)]
