"""The zoo: a family of tiny language models of known descent, with prompts and benchmarks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from karma_plugins.zoo.settings import Member, ZooSettings

__all__ = ["Member", "ZooSettings", "build"]


def build(
    folder: Path, settings: ZooSettings, report: Callable[[dict[str, float], int], None] | None = None
) -> dict[str, dict[str, float]]:
    """Trains the family and writes everything that a pipeline needs to `folder`.

    Writes `models/<name>/` (Hugging Face folders), `prompts.jsonl` (splits train and heldout), `tasks/`
    (lm-eval tasks zoo_knowledge, zoo_reasoning, zoo_instruction) and `family.csv` (model, direct_parent). The
    same settings on the same machine write the same bytes. Returns each model's steps, parameters and final
    loss; `report` receives losses and the step, counted up to `settings.total_steps`. Raises ParamsError
    where the world is too small for the items asked for.
    """
    from karma_plugins.zoo.tasks import write_prompts, write_tasks
    from karma_plugins.zoo.training import train_family
    from karma_plugins.zoo.world import build_world

    world = build_world(settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder / "prompts.jsonl", world)
    write_tasks(folder / "tasks", world, settings.spoken_forms)
    descent = "".join(f"{name},{member.parent or ''}\n" for name, member in settings.family.items())
    (folder / "family.csv").write_text("model,direct_parent\n" + descent, encoding="utf-8")
    return train_family(folder / "models", settings, world, report)
