from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from karma_plugins.errors import ModelError
from karma_plugins.models import Weights, loading
from tests.tiny import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


def test_model_and_tokenizer_of_a_folder(folder):
    tokenizer, model = (
        loading.load_tokenizer(Weights(folder=str(folder))),
        loading.load_model(Weights(folder=str(folder))),
    )
    assert tokenizer.padding_side == "left"
    assert not model.training
    assert tokenizer.decode(tokenizer("héllo ☂")["input_ids"]) == "héllo ☂"


def test_the_last_model_stays_loaded_until_its_bytes_change(folder, tmp_path):
    """Whatever the times say: new bytes of the same size under the old time are seen."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = Weights(folder=str(copy))
    model, tokenizer = loading.loaded(weights)
    assert loading.loaded(weights) == (model, tokenizer)
    (copy / "model.safetensors").touch()
    assert loading.loaded(weights)[0] is model
    stat = (copy / "model.safetensors").stat()
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\x3f")
    os.utime(copy / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert loading.loaded(weights)[0] is not model


def test_dtype_is_the_descriptors_and_float32_for_training(folder):
    import torch

    half = Weights(folder=str(folder), dtype="bfloat16")
    assert loading.load_model(half).dtype == torch.bfloat16
    assert loading.load_model(Weights(folder=str(folder)), for_training=True).dtype == torch.float32


def test_chat_template_from_a_file(folder, tmp_path):
    template = tmp_path / "plain.jinja"
    template.write_text("{{ messages[0]['content'] }}!", encoding="utf-8")
    tokenizer = loading.load_tokenizer(Weights(folder=str(folder), chat_template=str(template)))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"
    with pytest.raises(ModelError, match="does not exist"):
        loading.load_tokenizer(Weights(folder=str(folder), chat_template="nowhere.jinja"))


def test_no_chat_template_is_said_before_any_answer(tmp_path):
    weights = Weights(folder=str(write_model(tmp_path / "plain", chat_template=None)))
    with pytest.raises(ModelError, match="chat_template"):
        loading.check_chat_template(loading.load_tokenizer(weights), weights)


def test_a_model_that_is_not_there_says_how_to_fetch_it():
    weights = Weights(hub="nobody/nothing", revision="abc")
    with pytest.raises(ModelError, match="hf download nobody/nothing --revision abc") as caught:
        loading.load_model(weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "nowhere"}, "device name.*correct what its descriptor asks for"),
        ({"attention": "flash_attention_2"}, "correct what its descriptor asks for"),
        ({"adapter": "nobody/adapter"}, "adapter 'nobody/adapter'.*`hf download nobody/adapter`"),
    ],
)
def test_the_cure_fits_the_failure(folder, options, message):
    with pytest.raises(ModelError, match=message):
        loading.load_model(Weights(folder=str(folder), **options))


def test_pickled_weights_are_refused(folder, tmp_path):
    import torch

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    torch.save(loading.load_model(Weights(folder=str(folder))).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds pickled weights \(pytorch_model.bin\)"):
        loading.load_model(Weights(folder=str(pickled)))


def test_an_adapter_is_laid_over_the_weights(folder, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    base = loading.load_model(Weights(folder=str(folder)))
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(5, 15)[None]
    merged = loading.load_model(Weights(folder=str(folder), adapter=str(tmp_path / "adapter")))
    plain = loading.load_model(Weights(folder=str(folder)))
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-4)
        assert not torch.allclose(merged(ids).logits, plain(ids).logits, atol=1e-3)


def test_quantisation_without_a_gpu_says_so(folder):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="needs a CUDA GPU"):
        loading.load_model(Weights(folder=str(folder), quantisation="4bit"))
