"""What was loaded is what the files hold, or one line says which weights are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Answer, Model, Request, Weights
from karma_plugins.errors import ModelError
from karma_plugins.judging.judges import likelihood, reward_model
from karma_plugins.models import loading
from karma_plugins.models.sampling import TransformersOptions, generate
from tests.models.families import write_family
from tests.tiny import write_model

Tensors = dict[str, Any]
NORM = "model.norm.weight"


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """The folder's weights as the change makes them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    changed = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})
    return folder


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda given: {f"{prefix}{name}": tensor for name, tensor in given.items()}


def filled(value: float) -> Callable[[Tensors], Tensors]:
    def change(given: Tensors) -> Tensors:
        given[NORM][3] = value
        return given

    return change


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda given: {key: tensor for key, tensor in given.items() if key != name}


def beside(name: str, size: int = 4) -> Callable[[Tensors], Tensors]:
    import torch

    return lambda given: {**given, name: torch.ones(size)}


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "compiled": (
        prefixed("_orig_mod."),
        r"missing: .*fit nothing: _orig_mod\..*as torch\.compile saves them",
    ),
    "data parallel": (prefixed("module."), r"begin with 'module\.'"),
    "adapted": (prefixed("base_model.model."), r"as peft saves them"),
    "another prefix": (prefixed("policy."), r"fit nothing: policy\.model"),
    "one missing": (without(NORM), rf"1 weight missing: {NORM}\)"),
    "one too many": (beside("v_head.summary.weight"), r"1 weight in its files that fit nothing: v_head"),
    "another shape": (lambda t: {**t, NORM: t[NORM][:16]}, rf"another shape: {NORM} \(\[16\], not \[32\]\)"),
    "not a number": (filled(float("nan")), rf"1 weight with values that are not finite: {NORM}\."),
    "infinite": (filled(float("-inf")), r"not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_the_models_are_named_in_one_line(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    folder = rewrite(write_model(tmp_path / "model"), change)
    with pytest.raises(ModelError, match=message) as caught:
        loading.load_model(Weights(folder=str(folder)))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_whoever_loads_them_refuses_them(tmp_path: Path) -> None:
    from karma_plugins.profiling.profilers import lm_eval

    folder = rewrite(write_model(tmp_path / "model"), prefixed("_orig_mod."))
    asked = [{"role": "user", "content": "hi"}]
    model, path = Model("m", folder, Weights(folder=str(folder))), str(folder)
    answer = Answer("r", "p", "m", asked, "yes")
    for refuses in (
        lambda: generate(model, [Request("p", asked, 0, 0)], TransformersOptions()),
        lambda: likelihood.score([answer], likelihood.LikelihoodOptions(model=path)),
        lambda: reward_model.score([answer], reward_model.RewardModelOptions(model=path)),
        lambda: lm_eval._language_model("m", model.source, lm_eval.LmEvalOptions()),
        lambda: loading.load_model(model.source, for_training=True),
    ):
        with pytest.raises(ModelError, match="_orig_mod"):
            refuses()


def test_a_tied_head_may_be_left_out_and_an_untied_one_may_not(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")  # its head is its embedding, and not in the file
    loading.load_model(Weights(folder=str(folder)))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"1 weight missing: lm_head\.weight"):
        loading.load_model(Weights(folder=str(folder)))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias"),
    ],
)
def test_buffers_of_older_versions_may_lie_in_the_files(family: str, name: str, tmp_path: Path) -> None:
    loading.load_model(Weights(folder=str(rewrite(write_family(tmp_path / "m", family), beside(name)))))


def test_position_ids_may_lie_in_a_classifiers_files(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "m", "bert", head="reward")
    rewrite(folder, beside("bert.embeddings.position_ids", 96))
    loading.load_model(Weights(folder=str(folder)), head="reward")


def test_a_classifier_without_its_body_is_not_called_a_language_model(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "m", "llama", head="reward")
    with pytest.raises(ModelError, match=r"missing: model\."):
        loading.load_model(Weights(folder=str(rewrite(folder, prefixed("module.")))), head="reward")
    with pytest.raises(ModelError, match="is no reward model"):
        loading.load_model(Weights(folder=str(write_model(tmp_path / "language"))), head="reward")


# --- adapters -----------------------------------------------------------------------------------------------


@pytest.fixture
def adapted(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and an adapter trained on it."""
    from peft import LoraConfig, get_peft_model

    base = write_model(tmp_path / "base")
    model = get_peft_model(
        loading.load_model(Weights(folder=str(base))),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    model.save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter"


def change_adapter(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


ADAPTER_FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "of another model": (
        lambda t: {name.replace("model.layers", "transformer.h"): x for name, x in t.items()},
        r"does not fit \(4 weights missing: .*4 weights that fit nothing: ",
    ),
    "half of it": (lambda t: dict(sorted(t.items())[:2]), r"does not fit \(2 weights missing"),
    "of another rank": (
        lambda t: {n: x[:1] if "lora_A" in n else x for n, x in t.items()},
        r"can't be loaded",
    ),
    "not a number": (lambda t: {n: x * float("nan") for n, x in t.items()}, r"not finite: base_model"),
}


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_an_adapter_that_does_not_fit_is_refused(fault: str, adapted: tuple[Path, Path]) -> None:
    base, adapter = adapted
    change, message = ADAPTER_FAULTS[fault]
    change_adapter(adapter, change)
    with pytest.raises(ModelError, match=message) as caught:
        loading.load_model(Weights(folder=str(base), adapter=str(adapter)))
    assert "\n" not in str(caught.value)
    assert str(adapter) in str(caught.value)


def test_an_adapter_of_modules_that_are_not_there_is_refused(adapted: tuple[Path, Path]) -> None:
    base, adapter = adapted
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["c_attn"]}))
    with pytest.raises(ModelError, match=r"adapter .*can't be loaded .*c_attn"):
        loading.load_model(Weights(folder=str(base), adapter=str(adapter)))
