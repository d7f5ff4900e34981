"""What dvc.yaml says, held against params.yaml and the table of stages: what would run too seldom, or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from karma_plugins import params
from karma_plugins.checking.findings import Findings, checked, is_awaited
from karma_plugins.errors import did_you_mean
from karma_plugins.lineage import unwatched as unwatched_by
from karma_plugins.registry import Bound, lock, selection
from karma_plugins.registry.stages import STAGES


def sections(document: Mapping[str, Any], pipeline: Mapping[str, Any], findings: Findings) -> None:
    """Sections that no stage reads, and those that a stage of dvc.yaml will miss."""
    own = {stage.name for stage in STAGES.values() if stage.sectioned}
    known = {*own, "models", "tracking", "import", "runner"}
    for name in document:
        if name not in known:
            findings.errors.append(f"params.yaml: unknown section '{name}'.{did_you_mean(str(name), known)}")
    for stage in pipeline:
        misspelt = did_you_mean(stage, [str(name) for name in document])
        if stage in own and stage not in document and not misspelt:
            findings.errors.append(f"params.yaml: section '{stage}' is missing; stage {stage} reads it.")


def locked(pipeline: Mapping[str, Any], findings: Findings) -> None:
    """Stages that would not run again though their code changed, as dvc.yaml does not name it."""
    for name, body in pipeline.items():
        stage, body = STAGES.get(name), body.get("do", body)
        if stage is None or f"stages.{name}" not in str(body.get("cmd")):
            continue
        keys = {
            str(key)
            for param in body.get("params") or ()
            if isinstance(param, Mapping)
            for key in param.get(str(lock.LOCK)) or ()
        }
        needed = [f"{name}.{lock.CORE}", *(stage.locked if stage.name != "code" else ())]
        lacking = [key for key in needed if key not in keys and key.partition(".")[0] not in keys]
        deps = [str(dep) for dep in body.get("deps") or ()]
        missing = [dep for dep in (stage.script, *([stage.note] if stage.noted else [])) if dep not in deps]
        if lacking:
            findings.warnings.append(
                f"dvc.yaml, {name}: {', '.join(lacking)} of {lock.LOCK} are not among its params: changed "
                "code would not run it again. Add them."
            )
        if missing:
            findings.warnings.append(
                f"dvc.yaml, {name}: {', '.join(missing)} are not among its deps: changed code would not run "
                "it again. Add them."
            )


def interpolated(document: Mapping[str, Any], pipeline: Mapping[str, Any], findings: Findings) -> None:
    """Keys that dvc.yaml names, which have no default there: DVC reads no stage's code."""
    text = json.dumps(pipeline)
    named = {name.strip() for name in re.findall(r"\$\{([^{}]+)\}", text)}
    wanted = [name.split(".") for name in sorted(named) if name != "key" and not name.startswith("item.")]
    for path, names in _of_items(pipeline).items():
        items: Any = document
        for part in path:
            items = items.get(part) if isinstance(items, Mapping) else None
        for item in items if isinstance(items, Mapping) else ():
            wanted += [[*path, str(item), *name.split(".")] for name in sorted(names)]
    for keys in wanted:
        value: Any = document
        for depth, key in enumerate(keys):
            if not isinstance(value, Mapping) or key not in value:
                place, lacking = f"params.yaml, {'.'.join(keys[:depth])}:", ".".join(keys[depth:])
                problem = f"key '{lacking}' is missing"
                # An absent section, or a key that has no default in any case, was named before.
                if depth and not any(e.startswith(place) and problem in e for e in findings.errors):
                    findings.errors.append(
                        f"{place} {problem}, and dvc.yaml names it. Write it down, default or not."
                    )
                break
            value = value[key]


def _of_items(pipeline: Mapping[str, Any]) -> dict[tuple[str, ...], set[str]]:
    """The keys that stages with `foreach` name of each item, by the place of the items in params.yaml."""
    named: dict[tuple[str, ...], set[str]] = {}
    for stage in pipeline.values():
        each = re.fullmatch(r"\$\{([\w.-]+)\}", str(stage.get("foreach", "")).strip())
        if each is None:
            continue
        text, place = json.dumps(stage), re.escape(each[1])
        keys = set(re.findall(r"\$\{item\.([\w.-]+)\}", text))
        keys |= set(re.findall(place + r"\.\$\{key\}\.([\w.-]+)", text))
        named.setdefault(tuple(each[1].split(".")), set()).update(keys)
    return named


def unwatched(
    document: Mapping[str, Any],
    pipeline: Mapping[str, Any],
    judges: Iterable[Bound[Any]],
    outs: set[Path],
    findings: Findings,
) -> None:
    """What judges read although DVC does not know of it."""
    section = checked(params.JudgeSection, document.get("judge"), "params.yaml, judge", Findings())
    for judge in judges:
        if section is None or is_awaited(judge, outs):
            continue
        entry = section.judges[judge.name]
        paths = findings.attempt(selection.read_by, judge, entry, Path("data/kinship.parquet")) or ()
        for path in unwatched_by(pipeline, document, "judge", judge.name, paths):
            findings.errors.append(
                f"dvc.yaml, judge: '{path}', which judge {judge.name} reads, is no dep of it, so a change "
                "there would run nothing again. Name it in "
                f"judge.judges.{judge.name}.reads, or among its deps."
            )


def outs(stages: Mapping[str, Any]) -> Iterator[Path]:
    """The outs of all stages, as dvc.yaml writes them."""
    for stage in stages.values():
        body = stage.get("do", stage)
        for out in body.get("outs") or []:
            yield Path(out if isinstance(out, str) else next(iter(out)))
