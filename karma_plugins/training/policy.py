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

from karma_plugins.errors import ModelError
from karma_plugins.models.loading import check_chat_template, load_model, load_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from karma_plugins.contracts import LoraSettings, TrainingJob, TrainingSettings
    from karma_plugins.models import Weights


def tokenizer_of(job: TrainingJob) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in training; ModelError where it has no chat template."""
    found = load_tokenizer(job.start)
    check_chat_template(found, job.start)
    return found


def load_policy(job: TrainingJob) -> PreTrainedModel | PeftModel:
    """The model to train; with LoRA a fresh adapter over the base, or that of the phase before."""
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


def longest(model: PreTrainedModel | PeftModel, settings: TrainingSettings) -> int:
    """Tokens of prompt and answer together: `train.max_length`, else all that the model has positions for."""
    return settings.max_length or int(model.config.get_text_config().max_position_embeddings)


def save(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write safetensors, configuration and tokenizer, and nothing that holds a path, a time or a pickle."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(folder, selected_adapters=["default"])
        _settle(folder / "adapter_config.json")
    else:
        model.config.use_cache = True  # switched off for training, wanted for generation
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def _settle(config: Path) -> None:
    """Take out of an adapter's configuration the path of its base, and the order of a set."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    if Path(settings["base_model_name_or_path"] or ".").exists():
        settings["base_model_name_or_path"] = None
    settings["target_modules"] = sorted(settings["target_modules"])
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _adapted(start: Weights, lora: LoraSettings, seed: int) -> PeftModel:
    from peft import PeftModel, get_peft_model
    from transformers import set_seed

    bare = load_model(start.model_copy(update={"adapter": None}), for_training=True)
    if start.adapter is not None:
        return PeftModel.from_pretrained(bare, start.adapter, is_trainable=True)
    set_seed(seed)  # the adapter's first weights are drawn
    return get_peft_model(bare, lora_config(lora, "CAUSAL_LM"))


def lora_config(lora: LoraSettings, task: str) -> LoraConfig:
    """The settings as peft takes them, for task CAUSAL_LM or SEQ_CLS."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules
        if isinstance(lora.target_modules, str)
        else list(lora.target_modules),
        task_type=task,
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
    shown = os.environ.get("TQDM_DISABLE", "")
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
        os.environ["TQDM_DISABLE"] = shown
        if bars:
            transformers.logging.enable_progress_bar()
        if data_bars:
            datasets.enable_progress_bars()
