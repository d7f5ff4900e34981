"""What is wrong with a folder of weights is seen before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from karma_plugins import models
from karma_plugins.contracts import Weights
from karma_plugins.errors import ModelError
from karma_plugins.models import folders, loading
from tests.tiny import write_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 132\n"
WHOLE = "model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("folders") / "tiny")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "model")


def shards(folder: Path, parts: int = 2) -> dict[str, str]:
    """The folder's weights cut into files that an index names; returns that map."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WHOLE)
    (folder / WHOLE).unlink()
    place = {
        name: f"model-{i % parts + 1:05}-of-{parts:05}.safetensors" for i, name in enumerate(sorted(tensors))
    }
    for file in sorted(set(place.values())):
        save_file({n: tensors[n] for n in tensors if place[n] == file}, folder / file, {"format": "pt"})
    (folder / folders.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return place


def cut(folder: Path) -> None:
    content = (folder / WHOLE).read_bytes()
    (folder / WHOLE).write_bytes(content[: len(content) // 2])


def lengthened(folder: Path) -> None:
    with (folder / WHOLE).open("ab") as file:
        file.write(b"\0" * 7)


def garbled(folder: Path) -> None:
    content = bytearray((folder / WHOLE).read_bytes())
    content[8:24] = b"\xff" * 16
    (folder / WHOLE).write_bytes(content)


def nested(folder: Path) -> None:
    header = b'{"a":' + b"[" * 200_000
    (folder / WHOLE).write_bytes(len(header).to_bytes(8, "little") + header)


def one_shard_gone(folder: Path) -> None:
    (folder / sorted(set(shards(folder).values()))[0]).unlink()


def an_index_that_promises_more(folder: Path) -> None:
    place = shards(folder)
    more = {"weight_map": place | {"model.layers.7.x": next(iter(place.values()))}}
    (folder / folders.INDEX).write_text(json.dumps(more))


def shards_without_an_index(folder: Path) -> None:
    shards(folder)
    (folder / folders.INDEX).unlink()


def writes(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def loses(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut short": (cut, r"model\.safetensors: ends before its last tensor \(\d+ bytes, not \d+\)"),
    "longer than it says": (lengthened, "goes on after its last tensor"),
    "garbled header": (garbled, "safetensors header can't be read"),
    "deep header": (nested, "safetensors header can't be read"),
    "empty": (writes(WHOLE, ""), r"no whole safetensors file \(0 bytes\)"),
    "a page instead": (writes(WHOLE, "<html>not found</html>"), "no whole safetensors file"),
    "git-lfs pointer": (writes(WHOLE, POINTER), "git-lfs pointer: run `git lfs pull`"),
    "pointer to the tokenizer": (writes("tokenizer.json", POINTER), r"tokenizer\.json' is a git-lfs pointer"),
    "git-annex pointer": (writes(WHOLE, "/annex/objects/SHA256E-s9--1\n"), "git annex get"),
    "a shard is missing": (one_shard_gone, r"model-00001-of-00002\.safetensors' is missing, which model"),
    "a tensor is missing": (an_index_that_promises_more, r"lacks tensor 'model\.layers\.7\.x'"),
    "no index": (shards_without_an_index, "so 'model-00001-of-00002.safetensors' is never read"),
    "broken configuration": (writes("config.json", "{"), r"config\.json: not readable as JSON"),
    "no configuration": (loses("config.json"), r"holds no config\.json"),
    "no weights": (loses(WHOLE), r"holds no \*\.safetensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_can_not_be_right_is_said_in_one_line(fault: str, folder: Path) -> None:
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        models.load("m", folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=message):
        loading.load_model(Weights(folder=str(folder)))


def test_a_link_that_leads_nowhere(folder: Path) -> None:
    (folder / WHOLE).unlink()
    (folder / WHOLE).symlink_to(folder / ".git" / "annex" / "objects" / "x")
    with pytest.raises(ModelError, match="link to nothing"):
        models.load("m", folder)


def test_what_the_index_names_counts_and_nothing_beside_it(folder: Path) -> None:
    place = shards(folder, 3)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"stale, and no safetensors at all")
    assert [file.name for file in folders.weight_files(folder)] == sorted(set(place.values()))
    models.load("m", folder)
    loading.load_model(Weights(folder=str(folder)))


# --- adapters -----------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path, tiny: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    base = loading.load_model(Weights(folder=str(tiny)))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = str(tiny)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_in_a_models_place_says_where_it_belongs(adapter: Path, tiny: Path) -> None:
    with pytest.raises(ModelError, match=rf"`folder: {tiny}` and `adapter: {adapter}`"):
        models.load("m", adapter)
    with pytest.raises(ModelError, match="holds a LoRA adapter, not whole weights"):
        loading.load_model(Weights(folder=str(adapter)))
    config = json.loads((adapter / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": "me/base"
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="`hub: me/base` and `adapter: "):
        models.load("m", adapter)


def test_weights_and_an_adapter_in_one_folder_are_not_guessed_at(adapter: Path, folder: Path) -> None:
    shutil.copy(adapter / "adapter_config.json", folder)
    with pytest.raises(ModelError, match="holds whole weights and an adapter"):
        models.load("m", folder)


def test_a_descriptors_adapter_is_looked_at_too(adapter: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(f"folder: {folder}\nadapter: {adapter}\n")
    models.load("m", tmp_path / "m.yaml")
    (adapter / "adapter_model.safetensors").write_text(POINTER)
    with pytest.raises(ModelError, match="git-lfs pointer"):
        models.load("m", tmp_path / "m.yaml")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        models.load("m", tmp_path / "m.yaml")


# --- tokenizers ---------------------------------------------------------------------------------------------


def test_a_tokenizer_with_nothing_to_pad_with_is_said(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("pad_token", "eos_token", "unk_token"):
        config[name] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no pad, end or unknown token. Set 'pad_token'"):
        loading.load_tokenizer(Weights(folder=str(folder)))


def test_a_padding_token_that_the_weights_do_not_know_pads_nothing(folder: Path) -> None:
    """A common accident: the token was added and the embeddings not resized."""
    from transformers import AutoTokenizer

    from karma_plugins.contracts import Model, Request
    from karma_plugins.models.sampling import TransformersOptions, generate

    requests = [Request(text, [{"role": "user", "content": text}], 0, 1) for text in ("hi", "hello there")]
    options = TransformersOptions(max_new_tokens=8, temperature=0)
    source = Weights(folder=str(folder))
    expected = generate(Model("m", folder, source), requests, options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert generate(Model("m", folder, source), requests, options) == expected
    strange = [Request("x", [{"role": "user", "content": "a <|new|>"}], 0, 1)]
    (refused,) = generate(Model("m", folder, source), strange, options)
    assert refused.error == "the prompt's token 261 is beyond the 261 that the model has embeddings for"
