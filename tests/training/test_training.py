"""Training: order, phases, determinism, kills, exports, clear stops."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import models, training
from karma_plugins.contracts import LoraSettings
from karma_plugins.errors import EmptyResultError, ModelError, ParamsError, TrainingError
from karma_plugins.params import TrainSection
from tests.tiny import write_model
from tests.training.preferences import objective, pairs

HERE = Path(__file__).resolve().parent
SETTINGS = TrainSection(base="base", batch_size=4, epochs=2, checkpoint_steps=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("train") / "base")


def run(base: Path, folder: Path, settings: TrainSection = SETTINGS, name: str = "dpo", **kwargs):
    told = []
    result = training.train(
        kwargs.get("pairs", pairs(24, phases=2)),
        models.load("base", base),
        objective(name, **kwargs.get("options", {})),
        settings,
        output=folder / "model",
        checkpoints=folder / "kept",
        report=lambda metrics, step: told.append((step, dict(metrics))),
    )
    return result, told


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("undisturbed")
    result, told = run(base, folder)
    return folder, result, told


def test_output_is_a_loadable_model_without_pickles_paths_or_state(undisturbed, tmp_path):
    from karma_plugins.models.loading import load_model, load_tokenizer

    folder, _, _ = undisturbed
    files = contents(folder / "model")
    assert set(files) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not any(str(folder.parent).encode() in data or b"_name_or_path" in data for data in files.values())
    weights = models.load("aligned", folder / "model").source
    assert load_model(weights).config.use_cache
    assert load_tokenizer(weights).chat_template


def test_same_inputs_same_bytes(base, undisturbed, tmp_path):
    result, _ = run(base, tmp_path)
    assert contents(tmp_path / "model") == contents(undisturbed[0] / "model")
    assert result.metrics == undisturbed[1].metrics


def test_steps_are_counted_over_phases_and_metrics_come_with_them(undisturbed):
    _, result, told = undisturbed
    assert [step for step, _ in told] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "rewards/margins", "rewards/accuracies"} <= set(told[0][1])
    assert result.metrics["steps"] == 12
    assert result.metrics["pairs"] == 24
    loss = result.curve.filter(pl.col("metric") == "loss")
    assert loss["step"].to_list() == [2, 4, 6, 8, 10, 12]
    assert loss["phase"].to_list() == [0, 0, 0, 1, 1, 1]
    assert result.metrics["loss"] == told[-1][1]["loss"]


def test_a_finished_training_is_not_done_again(base, undisturbed, monkeypatch):
    folder, result, told = undisturbed
    before = contents(folder / "model")
    monkeypatch.setattr("trl.DPOTrainer.train", lambda *_, **__: pytest.fail("trained again"))
    again, told_again = run(base, folder)
    assert contents(folder / "model") == before
    assert again.metrics == result.metrics
    assert told_again == told


def test_each_phase_refers_to_the_model_of_the_phase_before(base, tmp_path, monkeypatch):
    from karma_plugins.contracts import Objective, Options
    from karma_plugins.registry import Bound, Origin

    jobs = []

    def train(job, options):
        jobs.append((job, contents(Path(job.reference.folder))))
        job.output.mkdir()
        (job.output / "weights").write_bytes(f"phase {job.phase}".encode())

    plugin = Objective(name="spy", train=train)
    training.train(
        pairs(24, phases=3),
        models.load("base", base),
        Bound("spy", plugin, Options(), Origin("tests", "0")),
        SETTINGS,
        output=tmp_path / "model",
        checkpoints=tmp_path / "kept",
    )
    references = [reference for _, reference in jobs]
    assert references == [contents(base), {"weights": b"phase 0"}, {"weights": b"phase 1"}]
    assert [job.pairs["order"].to_list() for job, _ in jobs] == [
        [*range(8)],
        [*range(8, 16)],
        [*range(16, 24)],
    ]
    assert all(job.start == job.reference for job, _ in jobs)
    assert contents(tmp_path / "model") == {"weights": b"phase 2"}


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4)])
@pytest.mark.parametrize("least", [0.0, 1e9])
def test_the_reference_stays_until_the_policy_has_moved_so_far(base, tmp_path, least, lora):
    """With a threshold that is always or never passed; a phase starts from the one before all the same."""
    jobs = []
    plugin = objective("dpo")

    def train(job, options):
        jobs.append(job)
        plugin.plugin.train(job, options)

    spied = replace(plugin, plugin=replace(plugin.plugin, train=train))
    settings = SETTINGS.model_copy(update={"reference_kl": least, "lora": lora})
    result = training.train(
        pairs(24, phases=3), models.load("base", base), spied, settings,
        output=tmp_path / "model", checkpoints=tmp_path / "kept",
    )  # fmt: skip
    places = [job.start.folder if lora is None else job.start.adapter for job in jobs]
    assert [Path(place).parent.name for place in places[1:]] == ["phase-0", "phase-1"]
    moved = least == 0.0
    assert [job.reference == job.start for job in jobs] == [True, moved, moved]
    assert all(job.reference == jobs[0].start for job in jobs[1:]) == (not moved)
    kl = result.curve.filter(pl.col("metric") == "reference/kl")
    assert kl["step"].to_list() == [4, 8, 12]
    assert (kl["value"] > 0).all()


def test_the_reference_loaded_in_a_phase_is_the_model_of_the_phase_before(
    base, undisturbed, tmp_path, monkeypatch
):
    import trl
    from safetensors.torch import load_file

    made = trl.DPOTrainer.__init__
    references = []

    def spy(self, *args, **kwargs):
        references.append({k: v.clone() for k, v in kwargs["ref_model"].state_dict().items()})
        made(self, *args, **kwargs)

    monkeypatch.setattr(trl.DPOTrainer, "__init__", spy)
    run(base, tmp_path)
    kept = next((tmp_path / "kept").iterdir())
    for reference, folder in zip(references, [base, kept / "phase-0" / "model"], strict=True):
        for name, tensor in load_file(folder / "model.safetensors").items():
            assert tensor.equal(reference[name])


def test_the_trainer_sees_the_pairs_in_the_order_of_the_file(base, tmp_path, monkeypatch):
    import trl

    from karma_plugins.models.loading import load_tokenizer

    tokenizer = load_tokenizer(models.load("base", base).source)
    compute, seen = trl.DPOTrainer._compute_loss, []

    def spy(self, model, inputs, return_outputs):
        seen.extend(tokenizer.batch_decode(inputs["input_ids"]))
        return compute(self, model, inputs, return_outputs)

    monkeypatch.setattr(trl.DPOTrainer, "_compute_loss", spy)
    shuffled = pairs(24, phases=2).sample(fraction=1.0, shuffle=True, seed=1)
    run(base, tmp_path, SETTINGS.model_copy(update={"epochs": 1.0}), pairs=shuffled)
    prompts = [text.split("Say ")[1].split(" ")[0] for text in seen]
    chosen_then_rejected = [[str(i) for i in range(k, k + 4)] * 2 for k in range(0, 24, 4)]
    assert prompts == [number for batch in chosen_then_rejected for number in batch]


KILLS = {
    # While a step is reported, in the middle of a checkpoint, in both phases, and before the export.
    "dpo": ["report:2", "checkpoint:1", "report:4", "checkpoint:2", "report:8", "checkpoint:1", "export"],
    # In the reward model's training and in the policy's, in both phases.
    "ppo": ["checkpoint:1", "checkpoint:7", "checkpoint:2", "checkpoint:2"],
    "rloo": ["checkpoint:7"],
}


def trained(base: Path, folder: Path, name: str, *moments: str) -> Mapping[str, bytes]:
    """A model trained in processes of one thread each, killed at these moments."""
    folder.mkdir()
    (folder / "base").symlink_to(base)
    ended = subprocess.run(
        [sys.executable, HERE / "kill_training.py", folder, name, *moments],
        env=os.environ | {"PYTHONPATH": f"{HERE.parent.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return contents(folder / "out")


@pytest.mark.parametrize("name", KILLS)
def test_kills_at_any_moment_change_no_byte(base, tmp_path, name):
    if name == "ppo":
        pytest.importorskip("torchrl")
    undisturbed = trained(base, tmp_path / "calm", name)
    assert trained(base, tmp_path / "killed", name, *KILLS[name]) == undisturbed


@pytest.mark.parametrize("export", ["merged", "adapter"])
def test_low_rank_adapters_over_phases(base, tmp_path, export):
    """Phase after phase trains the one adapter, which can be exported as it is or merged into the base."""
    import torch

    from karma_plugins.models.loading import load_model

    lora = LoraSettings(r=4, export=export)
    settings = SETTINGS.model_copy(update={"lora": lora, "learning_rate": 1e-2})
    result, _ = run(base, tmp_path, settings)
    assert result.metrics["steps"] == 12
    again = tmp_path / "again"
    run(base, again, settings)
    assert contents(again / "model") == contents(tmp_path / "model")
    files = contents(tmp_path / "model")
    assert ("adapter_model.safetensors" in files) == (export == "adapter")
    assert not any(str(base).encode() in data for data in files.values())
    if export == "adapter":
        aligned = models.Weights(folder=str(base), adapter=str(tmp_path / "model"))
    else:
        aligned = models.load("aligned", tmp_path / "model").source
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        before = load_model(models.Weights(folder=str(base)))(ids).logits
        after = load_model(aligned)(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)


def test_steps_are_shared_among_phases():
    uneven = pl.concat([pairs(30), pairs(10).with_columns(pl.col("order") + 30, phase=pl.lit(1, pl.Int64))])
    assert training.plan(uneven, SETTINGS.model_copy(update={"epochs": 1.5})) == {0: 12, 1: 4}
    assert training.plan(uneven, SETTINGS.model_copy(update={"gradient_accumulation": 2})) == {0: 8, 1: 3}
    assert training.plan(uneven, SETTINGS.model_copy(update={"max_steps": 8})) == {0: 6, 1: 2}
    with pytest.raises(ParamsError, match=r"train\.max_steps: 1 leaves a phase of 2 without a step"):
        training.plan(uneven, SETTINGS.model_copy(update={"max_steps": 1}))
    with pytest.raises(EmptyResultError, match="no pair to train on"):
        training.plan(uneven.clear(), SETTINGS)


def test_the_key_tells_trainings_apart(base):
    def key(settings=SETTINGS, n=24, **options):
        return training.content_key(
            pairs(n), models.load("base", base), objective("dpo", **options), settings
        )

    keys = {
        key(),
        key(n=23),
        key(beta=0.2),
        key(SETTINGS.model_copy(update={"seed": 1})),
        key(SETTINGS.model_copy(update={"lora": LoraSettings()})),
    }
    assert len(keys) == 5
    assert key(SETTINGS.model_copy(update={"register_as": "name"})) in keys


def test_a_base_that_cannot_be_trained_is_refused_before_any_work(base, tmp_path):
    def train(source, **settings):
        training.train(
            pairs(4),
            models.Model("base", base, source),
            objective("dpo"),
            SETTINGS.model_copy(update=settings),
            output=tmp_path / "model",
            checkpoints=tmp_path / "kept",
        )

    with pytest.raises(ModelError, match="holds no weights"):
        train(models.Endpoint(endpoint="http://127.0.0.1:1/v1", model="m"))
    with pytest.raises(ModelError, match="has an adapter"):
        train(models.Weights(folder=str(base), adapter="elsewhere"), lora=LoraSettings())
    with pytest.raises(ModelError, match="quantised"):
        train(models.Weights(folder=str(base), quantisation="4bit"), lora=LoraSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dpo", "orpo", "kto", "rloo", "ppo"])
def test_numbers_that_are_not_finite_stop_at_once_and_leave_nothing(base, tmp_path, name):
    """No model, no kept work that a later run would go on from, one line that says what to change."""
    if name == "ppo":
        pytest.importorskip("torchrl")
    options = {"max_new_tokens": 4, "reward": {"learning_rate": 1e-4}} if name in ("rloo", "ppo") else {}
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    for _ in range(2):  # a rerun says the same
        with pytest.raises(
            TrainingError, match=r"step \d+ of phase 0.*Lower the learning rate \(it is 1e\+30\)"
        ):
            run(base, tmp_path, settings, name, options=options)
        assert not (tmp_path / "model").exists()
        assert not [
            path for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.name != ".lock"
        ]


def test_weights_beyond_all_measure_are_not_written_after_the_last_step_either(base, tmp_path):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "max_steps": 1})
    with pytest.raises(TrainingError, match=r"weights of value [\d.]+e\+\d+ at step 1"):
        run(base, tmp_path, settings, pairs=pairs(4))
    assert not (tmp_path / "model").exists()


def test_prompts_that_leave_no_room_are_counted_and_steps_are_planned_without_them(base, tmp_path):
    """Of every objective's kin, orpo most of all, where a row without an answer made all weights NaN."""
    table = pairs(8).to_dicts()
    for row in table[:3]:
        row["prompt"][0]["content"] = "long " * 10
    settings = SETTINGS.model_copy(update={"max_length": 40, "epochs": 1.0})
    with pytest.warns(
        UserWarning, match="karma train: 3 of 8 pairs are not trained on: 3 because the prompt"
    ):
        result, _ = run(base, tmp_path, settings, "orpo", pairs=pl.DataFrame(table, schema=pairs(1).schema))
    counts = {name: value for name, value in result.metrics.items() if name.startswith(("pairs", "steps"))}
    assert counts == {
        "pairs": 5,
        "pairs/given": 8,
        "pairs/cut": 1,
        "pairs/dropped": 3,
        "pairs/dropped/prompt-too-long": 3,
        "steps": 2,
    }


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_the_trainer_gets_the_pairs_that_are_counted(base, tmp_path, monkeypatch, name):
    import transformers

    seen = []
    original = transformers.Trainer.train

    def spy(self, *args, **kwargs):
        rows = self.train_dataset.to_list()
        answers = [row.get("chosen_ids") or row.get("chosen") or row["completion_ids"] for row in rows]
        seen.append(len({tuple(answer) for answer in answers}))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(transformers.Trainer, "train", spy)
    table = pairs(8).to_dicts()
    table[2]["rejected"] = table[2]["chosen"]
    settings = SETTINGS.model_copy(update={"epochs": 1.0})
    with pytest.warns(UserWarning, match="1 of 8 pairs are not trained on: 1 because chosen and rejected"):
        result, _ = run(base, tmp_path, settings, name, pairs=pl.DataFrame(table, schema=pairs(1).schema))
    assert seen == [result.metrics["pairs"] * (2 if name == "kto" else 1)]
    assert result.metrics["pairs"] + result.metrics["pairs/dropped/same-tokens"] == 8


@pytest.mark.parametrize("name", ["nope", "lm_head"])
def test_modules_that_no_adapter_can_train_are_one_line(base, tmp_path, name):
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(target_modules=[name])})
    with pytest.raises(ParamsError, match=rf"train\.lora\.target_modules: .*'{name}'"):
        run(base, tmp_path, settings)


def test_bfloat16_without_the_hardware_is_one_line(base, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the hardware")
    with pytest.raises(ParamsError, match=r"train\.bf16: this machine has no GPU"):
        run(base, tmp_path, SETTINGS.model_copy(update={"bf16": True}))


def test_quiet_leaves_everything_as_it_was(monkeypatch):
    import datasets
    import transformers

    from karma_plugins.training.policy import quiet

    def state():
        return (
            dict(os.environ),
            transformers.logging.get_verbosity(),
            transformers.logging.is_progress_bar_enabled(),
            datasets.are_progress_bars_disabled(),
            logging.getLogger("trl").level,
            list(warnings.filters),
        )

    for bars in (None, "0"):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        if bars is not None:
            monkeypatch.setenv("TQDM_DISABLE", bars)
        before = state()
        with quiet():
            assert state() != before
        assert state() == before
