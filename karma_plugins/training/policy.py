"""The model in training, whole or with a low-rank adapter, and the model that it is held to."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.errors import ModelError, ParamsError, did_you_mean
from karma_plugins.models import padding
from karma_plugins.models.loading import (
    load_adapter,
    load_model,
    load_tokenizer,
    write_generation_config,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from karma_plugins.contracts import LoraSettings, TrainingJob
    from karma_plugins.models import Weights


def load_policy(job: TrainingJob, *, samples: bool = False) -> PreTrainedModel | PeftModel:
    """The model to train; with LoRA a fresh adapter over the base, or that of the phase before.

    Raises ModelError for one whose scores depend on the padding beside it, on the right, where answers are
    scored, or if it `samples` on the left, where answers begin.
    """
    model = _load_policy(job)
    if job.settings.lora is None or not job.settings.lora.dropout:
        without_dropout(model)
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    tokenizer = load_tokenizer(job.start)
    sides: tuple[padding.Side, ...] = ("right", "left") if samples else ("right",)
    if not all(padding.bears_padding(bare, tokenizer, side) for side in sides):
        raise ModelError(
            f"{job.start.location}: what this model says of a text depends on the padding beside it, so it "
            "can't be trained in batches."
        )
    return model


def without_dropout(model: torch.nn.Module) -> None:
    """Switch off all dropout of a model, also that which its layers draw without a module for it.

    Preference losses compare likelihoods of two models; noise in one of them would be taken for a difference.
    The configuration that is saved stays as it is.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _load_policy(job: TrainingJob) -> PreTrainedModel | PeftModel:
    lora = job.settings.lora
    if lora is None:
        if job.start.quantisation is not None:
            raise ModelError(
                f"{job.start.location}: quantised weights can't be trained whole. Set train.lora, or remove "
                "'quantisation' from the descriptor."
            )
        return load_model(job.start, for_training=True)
    return _adapted(job.start, lora, job.settings.seed)


def load_reference(job: TrainingJob) -> PreTrainedModel | None:
    """The frozen model that the policy is held to; null where it lies under the policy's adapter."""
    if job.settings.lora is not None and job.reference == job.start:
        return None
    return load_model(job.reference, for_training=True)


def save(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write safetensors, configuration and tokenizer, and nothing that holds a path, a time or a pickle.

    `state` are the whole weights where the model itself holds but a share of them (see `whole_state`).
    """
    from peft import PeftModel

    given = {} if state is None else {"state_dict": state}
    if isinstance(model, PeftModel):
        model.save_pretrained(folder, selected_adapters=["default"], **given)
        _settle(folder / "adapter_config.json")
    else:
        model.config.use_cache = True  # switched off for training, wanted for generation
        model.save_pretrained(folder, **given)
        write_generation_config(model, folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The whole weights of a model that is sharded over the processes; null where each holds them all.

    All processes must call it, as they gather; the first alone is given what was gathered.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    if not (sharded or any(isinstance(module, FullyShardedDataParallel) for module in model.modules())):
        return None
    state = dict(
        get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    )
    config = getattr(model, "config", None)
    if config is not None and config.get_text_config().tie_word_embeddings:
        # Gathered, what is tied has become two tensors; the file holds one, as without shards.
        for name in getattr(model, "_tied_weights_keys", None) or {}:
            state.pop(name, None)
    return state


def _settle(config: Path) -> None:
    """Take out of an adapter's configuration the path of its base, and the order of a set."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    if Path(settings["base_model_name_or_path"] or ".").exists():
        settings["base_model_name_or_path"] = None
    settings["target_modules"] = sorted(settings["target_modules"])
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _adapted(start: Weights, lora: LoraSettings, seed: int) -> PeftModel:
    bare = load_model(start.model_copy(update={"adapter": None}), for_training=True)
    if start.adapter is not None:
        return load_adapter(bare, start, trainable=True)
    return fresh_adapter(bare, lora, "CAUSAL_LM", seed)


def fresh_adapter(model: PreTrainedModel, lora: LoraSettings, task: str, seed: int) -> PeftModel:
    """The model under a fresh low-rank adapter, for task CAUSAL_LM or SEQ_CLS.

    Raises ParamsError where `train.lora.target_modules` names nothing that the model has, or its output
    layer.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    if not isinstance(targets, str):
        _check_targets(model, targets)
    set_seed(seed)  # the adapter's first weights are drawn
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type=task
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ParamsError(f"train.lora: {' '.join(str(error).split())}") from error


def _check_targets(model: PreTrainedModel, targets: list[str]) -> None:
    head = model.get_output_embeddings()
    names = {name for name, _ in model.named_modules() if name}
    known = sorted({
        name.rpartition(".")[2] for name, module in model.named_modules()
        if module is not head and getattr(module, "weight", None) is not None and module.weight.dim() == 2
    })  # fmt: skip
    for target in targets:
        matches = {name for name in names if name == target or name.endswith(f".{target}")}
        if not matches:
            raise ParamsError(
                f"train.lora.target_modules: the model has no module '{target}'."
                f"{did_you_mean(target, known)} It has: {', '.join(known)}."
            )
        if any(model.get_submodule(name) is head for name in matches):
            raise ParamsError(
                f"train.lora.target_modules: '{target}' is the output layer, which no adapter can train "
                "here. Leave it out."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """No bars, hints or telemetry of the libraries, which would fill a log; warnings of ours still show."""
    import datasets
    import transformers
    from huggingface_hub import constants

    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    data_bars = not datasets.are_progress_bars_disabled()
    telemetry, trl = constants.HF_HUB_DISABLE_TELEMETRY, logging.getLogger("trl")
    trl_level = trl.level
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    trl.setLevel(logging.ERROR)
    shown = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        trl.setLevel(trl_level)
        if shown is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = shown
        if bars:
            transformers.logging.enable_progress_bar()
        if data_bars:
            datasets.enable_progress_bars()
