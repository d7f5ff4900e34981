"""Tiny random models of many families that transformers has, each a real folder of weights made in a moment.

All speak the byte-level tokenizer of `tests.tiny`, have two layers and at most 96 positions, and weights that
are large enough for a wrong position or a padded token to be seen in every score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tiny import CHAT_TEMPLATE, build_tokenizer

#: Positions of a model that has a table of them.
POSITIONS = 96

_LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": POSITIONS,
}  # fmt: skip
_ROTARY = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
_BERT = {**_ROTARY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_GEMMA = {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
_ALIBI = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}

#: Causal language models: name of the family -> its type in transformers and its configuration.
LANGUAGE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT),
    "gpt_neox": ("gpt_neox", {**_ROTARY, "use_parallel_residual": True}),
    "opt": (
        "opt",
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "word_embed_proj_dim": 32, "max_position_embeddings": POSITIONS},
    ),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("falcon", {**_ALIBI, "new_decoder_architecture": False, "max_position_embeddings": POSITIONS}),
    "falcon-alibi": ("falcon", {**_ALIBI, "alibi": True, "new_decoder_architecture": False}),
    "llama": ("llama", _LLAMA),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": 16}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}),
    "gemma": ("gemma", {**_LLAMA, "head_dim": 8}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", _GEMMA),
    "phi": ("phi", _LLAMA),
    "phi3": ("phi3", {**_LLAMA, "original_max_position_embeddings": POSITIONS}),
    "granite": ("granite", _LLAMA),
    "olmo2": ("olmo2", _LLAMA),
    "mpt": (
        "mpt",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": POSITIONS},
    ),
    "gptj": ("gptj", {**_GPT, "rotary_dim": 4}),
    "mixtral": ("mixtral", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "qwen2_moe",
        {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
         "shared_expert_intermediate_size": 16},
    ),
    "stablelm": ("stablelm", _LLAMA),
    "cohere": ("cohere", _LLAMA),
    "mamba": ("mamba", {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2}),
}  # fmt: skip

#: Sequence classifiers with one label: name of the family -> its type in transformers and its configuration.
CLASSIFIERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", _BERT),
    "roberta": ("roberta", {**_BERT, "max_position_embeddings": POSITIONS + 2}),
    "deberta-v2": (
        "deberta-v2",
        {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "distilbert": (
        "distilbert",
        {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": POSITIONS},
    ),
    "modernbert": (
        "modernbert",
        {**_ROTARY, "local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 1,
         "sep_token_id": 1},
    ),
    "gpt2": LANGUAGE["gpt2"],
    "gpt_neox": LANGUAGE["gpt_neox"],
    "opt": LANGUAGE["opt"],
    "bloom": LANGUAGE["bloom"],
    "llama": LANGUAGE["llama"],
    "mistral": LANGUAGE["mistral"],
    "qwen2": LANGUAGE["qwen2"],
    "qwen3": LANGUAGE["qwen3"],
    "gemma2": LANGUAGE["gemma2"],
    "mixtral": LANGUAGE["mixtral"],
}  # fmt: skip

#: Families of which some row's scores change beside a longer row, on the left as `generate` pads.
HEEDFUL_LANGUAGE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "xlnet": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    "rwkv": (
        "rwkv",
        {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 48,
         "context_length": POSITIONS},
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        {**_LLAMA, "num_key_value_heads": 1, "lru_width": 32, "attention_window_size": 16,
         "num_hidden_layers": 3},
    ),
}  # fmt: skip

#: The same of classifiers, on the right.
HEEDFUL_CLASSIFIERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "xlnet": HEEDFUL_LANGUAGE["xlnet"],
    "fnet": (
        "fnet",
        {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
         "max_position_embeddings": POSITIONS},
    ),
    "convbert": ("convbert", {**_BERT, "embedding_size": 32, "conv_kernel_size": 3}),
}  # fmt: skip


def write_family(
    folder: Path,
    family: str,
    *,
    head: str = "language",
    seed: int = 0,
    dtype: str = "float32",
    pad: str | None = "own",
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """A tiny random model of a family, with its tokenizer, in safetensors; returns the folder.

    `head` is `language` or `reward`. `pad` is the tokenizer's padding token: `own`, `eos` (the end token
    pads, as in many released models) or null (it has none, and the model's configuration neither).
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    language, classifiers = {**LANGUAGE, **HEEDFUL_LANGUAGE}, {**CLASSIFIERS, **HEEDFUL_CLASSIFIERS}
    kind, settings = (language if head == "language" else classifiers)[family]
    tokenizer = build_tokenizer(chat_template)
    tokenizer.model_max_length = POSITIONS
    if pad != "own":
        tokenizer.pad_token = tokenizer.eos_token if pad == "eos" else None
    config = AutoConfig.for_model(
        kind,
        **settings,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1 if head == "reward" else 2,
    )
    auto = AutoModelForCausalLM if head == "language" else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config)
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn_like(weights) * (0.15 if weights.dim() > 1 else 0.05))
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
