"""Loads causal language models and tokenizers: safetensors only, no code of theirs, one clear error line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from karma_plugins.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from karma_plugins.models import Weights


_last: dict[
    tuple[Weights, tuple[tuple[str, int, int], ...]], tuple[PreTrainedModel, PreTrainedTokenizerBase]
] = {}


def loaded(weights: Weights) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer, to answer with: the last one stays loaded until another is asked for.

    What it must not be used for is training. Raises ModelError as `load_model` and `load_tokenizer` do.
    """
    folder = Path(weights.folder or "")
    files = sorted(folder.glob("*")) if weights.folder else []
    state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    if (weights, state) not in _last:
        _last.clear()  # before the next is loaded: two may not fit
        tokenizer = load_tokenizer(weights)
        _last[weights, state] = load_model(weights), tokenizer
    return _last[weights, state]


def load_tokenizer(weights: Weights) -> PreTrainedTokenizerBase:
    """The model's tokenizer: pads on the left, has a pad token, and the descriptor's chat template if any.

    Raises ModelError where the tokenizer can't be found or read.
    """
    from transformers import AutoTokenizer

    with _clear_errors(weights, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            weights.location, revision=_revision(weights), trust_remote_code=False, padding_side="left"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if weights.chat_template is not None:
        path = Path(weights.chat_template)
        if not path.is_file():
            raise ModelError(
                f"{weights.location}: chat template '{path}' does not exist. Correct 'chat_template'."
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer


def check_chat_template(tokenizer: PreTrainedTokenizerBase, weights: Weights) -> None:
    """Raise ModelError where there is no chat template: a made-up one asks in a form the model never saw."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"{weights.location}: its tokenizer has no chat template. Name a file in a descriptor: "
            "`chat_template: path/to/template.jinja`."
        )


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer; none where neither model nor tokenizer names one."""
    found: Any = model.generation_config.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [int(found)]


def load_model(
    weights: Weights, *, for_training: bool = False, head: Literal["language", "reward"] = "language"
) -> PreTrainedModel:
    """The model in evaluation mode, placed by `device_map` if given, else on the GPU if there is one.

    `head` is what it ends in: a language model's next token, or a reward model's one number.

    An adapter is merged into the weights (left on top of quantised ones). With `for_training`, dtype `auto`
    means float32, as small updates are lost in 16 bits. Raises ModelError where the model can't be found or
    read, or where its weights are pickled alone.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForCausalLM if head == "language" else AutoModelForSequenceClassification
    gpu = torch.cuda.is_available()
    options: dict[str, Any] = {
        "dtype": "float32" if for_training and weights.dtype == "auto" else weights.dtype
    }
    if weights.attention is not None:
        options["attn_implementation"] = weights.attention
    if weights.quantisation is not None:
        options["quantization_config"] = _quantisation(weights, gpu)
    if weights.device_map is not None or weights.quantisation is not None:
        options["device_map"] = weights.device_map or "auto"
    with _clear_errors(weights, "the model"):
        model, found = kind.from_pretrained(
            weights.location,
            revision=_revision(weights),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    if head == "reward" and (found["missing_keys"] or model.config.num_labels != 1):
        raise ModelError(
            f"{weights.location}: is no reward model: it has no trained head that gives one number. "
            "Name a sequence classifier with one label, such as TRL's RewardTrainer writes."
        )
    if "device_map" not in options and gpu:
        model = model.to("cuda")
    if weights.adapter is not None:
        model = _with_adapter(model, weights)
    return model.eval()


def _with_adapter(model: PreTrainedModel, weights: Weights) -> PreTrainedModel:
    from peft import PeftModel

    adapter = str(weights.adapter)
    with _clear_errors(weights, f"the adapter '{adapter}'", fetch=adapter):
        if not Path(adapter).is_dir():
            from huggingface_hub import snapshot_download

            adapter = snapshot_download(adapter, allow_patterns=["*.json", "*.safetensors"])
        if not (Path(adapter) / "adapter_model.safetensors").is_file():
            raise OSError("it holds no adapter_model.safetensors")
        adapted = PeftModel.from_pretrained(model, adapter)
    return adapted if weights.quantisation is not None else adapted.merge_and_unload()


def _quantisation(weights: Weights, gpu: bool) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if not gpu or find_spec("bitsandbytes") is None:
        raise ModelError(
            f"{weights.location}: quantisation '{weights.quantisation}' needs a CUDA GPU and bitsandbytes "
            "(`pip install bitsandbytes`). Install it or remove 'quantisation' from the descriptor."
        )
    if weights.quantisation == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _revision(weights: Weights) -> str:
    return weights.revision if weights.folder is None else "main"


@contextmanager
def _clear_errors(weights: Weights, what: str, fetch: str | None = None) -> Iterator[None]:
    """Turn what transformers raises into one line that says what was asked for and how to get it.

    `fetch` is what to fetch from the hub beforehand, if not the weights themselves.
    """
    from transformers.utils import logging

    # A bar drawn into a log file is hundreds of lines of noise.
    quiet = not sys.stderr.isatty() and logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = re.split(r"\. (?=[A-Z])", " ".join(str(error).split()))[0].rstrip(".")
        if fetch is not None and isinstance(error, OSError):
            cure = f"Fetch it beforehand: `hf download {fetch}`"
        elif weights.folder is not None:
            cure = "Save it again with `save_pretrained`, as safetensors and with its tokenizer, or correct "
            cure += "what its descriptor asks for"
        elif isinstance(error, OSError):
            cure = f"Fetch it beforehand: `hf download {weights.hub} --revision {weights.revision}`"
        else:
            cure = "Correct what its descriptor asks for, or install what that needs"
        raise ModelError(
            f"{weights.location}{f' at {weights.revision}' if weights.hub else ''}: {what} can't be loaded "
            f"({type(error).__name__}: {reason}). {cure}."
        ) from error
    finally:
        if quiet:
            logging.enable_progress_bar()
