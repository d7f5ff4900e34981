"""The one place where weights are loaded: safetensors only, no code of theirs, whole or not at all."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from karma_plugins.contracts import Weights
from karma_plugins.errors import KarmaError, ModelError
from karma_plugins.models.dates import freeze
from karma_plugins.models.fingerprints import fingerprint
from karma_plugins.models.folders import check_adapter, check_weights, read_object
from karma_plugins.models.integrity import check_finite, check_fits, check_loaded, tensors
from karma_plugins.models.templates import check_chat_template

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOG = logging.getLogger(__name__)
__all__ = [
    "Head",
    "check_chat_template",
    "end_tokens",
    "load_adapter",
    "load_model",
    "load_tokenizer",
    "loaded",
    "positions",
    "write_generation_config",
]  # fmt: skip

#: What a model ends in: the scores of its next token, or a reward model's one number.
Head: TypeAlias = Literal["language", "reward"]
#: What of a model's own generation_config is about its tokens and not about how it samples.
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
LONGEST_REASON = 400


@dataclass(frozen=True, slots=True)
class _Kept:
    """What stays loaded: the last model that was asked for, by all that decides what it says."""

    key: tuple[str, ...]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


_last: list[_Kept] = []


def loaded(
    weights: Weights, *, head: Head = "language", for_scores: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer, to answer with: the last one stays loaded until another is asked for.

    What it must not be used for is training. With `for_scores`, dtype `auto` means float32, so that no score
    depends on what else is scored at once. Raises ModelError as `load_model` and `load_tokenizer` do.
    """
    if for_scores and weights.dtype == "auto":
        weights = weights.model_copy(update={"dtype": "float32"})
    key = (head, weights.model_dump_json(), *(fingerprint(path) for path in _read(weights)))
    if not _last or _last[0].key != key:
        _last.clear()  # before the next is loaded: two may not fit
        LOG.info("loading %s (%s)", weights.location, head)
        tokenizer = load_tokenizer(weights)
        _last.append(_Kept(key, load_model(weights, head=head), tokenizer))
    return _last[0].model, _last[0].tokenizer


def _read(weights: Weights) -> list[Path]:
    """The files and folders on this machine whose bytes decide what is loaded."""
    named = (weights.folder, weights.adapter, weights.chat_template)
    return [path for path in (Path(name) for name in named if name) if path.exists()]


def load_tokenizer(weights: Weights) -> PreTrainedTokenizerBase:
    """The model's tokenizer: pads on the left, has a pad token, and the descriptor's chat template if any.

    Its chat template is told `weights.date` for today. Raises ModelError where the tokenizer can't be found
    or read, or where it has no token to pad with.
    """
    from transformers import AutoTokenizer

    with _clear_errors(weights, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            weights.location, revision=_revision(weights), trust_remote_code=False, padding_side="left"
        )
    if tokenizer.pad_token_id is None:
        stand_in = tokenizer.eos_token or tokenizer.unk_token
        if stand_in is None:
            raise ModelError(
                f"{weights.location}: its tokenizer has no token to pad with: no pad, end or unknown token. "
                "Set 'pad_token' in its tokenizer_config.json."
            )
        tokenizer.pad_token = stand_in
    if weights.chat_template is not None:
        path = Path(weights.chat_template)
        if not path.is_file():
            raise ModelError(
                f"{weights.location}: chat template '{path}' does not exist. Correct 'chat_template'."
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    freeze(tokenizer, weights.date)
    return tokenizer


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer; none where neither model nor tokenizer names one."""
    ends: Any = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return []
    return list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]


def positions(model: PreTrainedModel) -> int | None:
    """How many tokens the model has positions for; null where nothing bounds them."""
    config = model.config.get_text_config()
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return None
    # RoBERTa and its kin count positions from behind their padding token.
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return most - int(module.padding_idx) - 1
    return most


def load_model(weights: Weights, *, for_training: bool = False, head: Head = "language") -> PreTrainedModel:
    """The model in evaluation mode, placed by `device_map` if given, else on the GPU if there is one.

    `head` is what it ends in: a language model's next token, or a reward model's one number. Of its own
    generation_config the end, begin and padding tokens alone are left: how it samples is for params to say
    (`write_generation_config` puts the rest back beside weights that are saved).

    An adapter is merged into the weights (left on top of quantised ones). With `for_training`, dtype `auto`
    means float32, as small updates are lost in 16 bits. Raises ModelError where the model can't be found or
    read, where its weights are pickled alone, and where any weight is missing, fits nothing, has another
    shape or is not finite.
    """
    import torch

    gpu = torch.cuda.is_available()
    model = _from_pretrained(weights, _options(weights, gpu, for_training=for_training), head)
    if weights.device_map is None and weights.quantisation is None and gpu:
        model = model.to("cuda")
    if weights.adapter is not None:
        adapted = load_adapter(model, weights)
        model = adapted if weights.quantisation is not None else adapted.merge_and_unload()
    check_finite(weights.location, tensors(model))
    return model.eval()


def _options(weights: Weights, gpu: bool, *, for_training: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dtype": "float32" if for_training and weights.dtype == "auto" else weights.dtype
    }
    if weights.attention is not None:
        options["attn_implementation"] = weights.attention
    if weights.quantisation is not None:
        options["quantization_config"] = _quantisation(weights, gpu)
    if weights.device_map is not None or weights.quantisation is not None:
        options["device_map"] = weights.device_map or "auto"
    return options


def _from_pretrained(weights: Weights, options: Mapping[str, Any], head: Head) -> PreTrainedModel:
    """The weights as they are in their files, or none."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig

    if weights.folder is not None:
        check_weights(weights.location, Path(weights.folder))
    kind = AutoModelForCausalLM if head == "language" else AutoModelForSequenceClassification
    own = _own_generation_config(weights)
    with _clear_errors(weights, "the model"):
        model, info = kind.from_pretrained(
            weights.location,
            revision=_revision(weights),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            generation_config=GenerationConfig(),
            **options,
        )
    body = f"{model.base_model_prefix}."
    headless = bool(info["missing_keys"]) and not any(n.startswith(body) for n in info["missing_keys"])
    if head == "reward" and headless:
        raise ModelError(_no_reward_model(weights))
    check_loaded(weights.location, info)
    if head == "reward" and model.config.num_labels != 1:
        raise ModelError(_no_reward_model(weights))
    if model.can_generate():
        config = model.config.get_text_config()
        known = {name: (own or {}).get(name, getattr(config, name, None)) for name in TOKENS}
        model.generation_config = GenerationConfig(**known)
        model.karma_generation_config = own
    return model


def _no_reward_model(weights: Weights) -> str:
    return (
        f"{weights.location}: is no reward model: it has no trained head that gives one number. "
        "Name a sequence classifier with one label, such as TRL's RewardTrainer writes."
    )


def _own_generation_config(weights: Weights) -> dict[str, Any] | None:
    """What the model's generation_config.json says, unchecked; null where it has none."""
    if weights.folder is not None:
        file = Path(weights.folder) / "generation_config.json"
        return read_object(file) if file.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return read_object(
            Path(hf_hub_download(weights.location, "generation_config.json", revision=weights.revision))
        )
    # It has none, or the model can't be fetched, which is said where its weights are.
    except (OSError, ValueError, HfHubHTTPError):
        return None


def write_generation_config(model: PreTrainedModel, folder: Path) -> None:
    """Write beside saved weights the generation_config.json that they were loaded with, all of it."""
    own = getattr(model, "karma_generation_config", None)
    if own is not None:
        text = json.dumps(own, indent=2, sort_keys=True) + "\n"
        (folder / "generation_config.json").write_text(text, encoding="utf-8")


def load_adapter(model: PreTrainedModel, weights: Weights, *, trainable: bool = False) -> PeftModel:
    """The model under the adapter that the weights name, every tensor of which must find its place."""
    from peft import PeftModel

    adapter = str(weights.adapter)
    with _clear_errors(weights, f"the adapter '{adapter}'", fetch=adapter):
        if not Path(adapter).is_dir():
            from huggingface_hub import snapshot_download

            adapter = snapshot_download(adapter, allow_patterns=["*.json", "*.safetensors"])
        check_adapter(weights.location, Path(adapter))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
            # A second time, as the first does not say what fitted.
            fitted = adapted.load_adapter(adapter, "default", is_trainable=trainable)
    what = f"{weights.location}: adapter '{weights.adapter}'"
    check_fits(what, fitted.missing_keys, fitted.unexpected_keys)
    check_finite(what, ((name, value) for name, value in tensors(adapted) if ".default" in name))
    return adapted


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

    # A bar drawn into a log file is hundreds of lines of noise, and so is a table of weights that do not fit.
    quiet, level = not sys.stderr.isatty() and logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    except KarmaError:
        raise
    except Exception as error:  # what a stranger's files make transformers raise is of any kind
        reason = re.split(r"\. (?=[A-Z])", " ".join(str(error).split()))[0].rstrip(".")[:LONGEST_REASON]
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
        logging.set_verbosity(level)
        if quiet:
            logging.enable_progress_bar()
