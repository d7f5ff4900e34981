"""What lies at a model's path: weights, an endpoint, or answers already recorded.

A path is one of
- a folder of weights (config.json and safetensors, as `save_pretrained` writes them);
- a descriptor, a small YAML file in git with either `hub:` (or `folder:`) and loading options, or
`endpoint:`;
- recorded answers: a folder that holds `responses.parquet` or `responses.jsonl` (and maybe `scores.parquet`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from karma_plugins.contracts import Endpoint, Messages, Model, Recorded, Weights
from karma_plugins.errors import ModelError
from karma_plugins.models.fingerprints import fingerprint
from karma_plugins.models.folders import check_adapter, check_weights
from karma_plugins.params import validate, yaml

__all__ = [
    "Endpoint", "Recorded", "Weights", "aligned", "api_key", "check_weights", "files", "fingerprint", "load",
    "recorded", "with_system_prompt",
]  # fmt: skip

RESPONSES = ("responses.parquet", "responses.jsonl")
RECORDED_NAMES = (*RESPONSES, "scores.parquet")


def api_key(endpoint: Endpoint) -> SecretStr | None:
    """An endpoint's key from the environment; ModelError where the variable is not set or holds no key."""
    if endpoint.api_key_env is None:
        return None
    value = os.environ.get(endpoint.api_key_env, "").strip()
    where = f"{endpoint.endpoint}: environment variable {endpoint.api_key_env}"
    if not value:
        raise ModelError(f"{where} is not set. Export the key in it.")
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ModelError(f"{where} holds characters that no key has (printable ASCII without spaces).")
    return SecretStr(value)


def recorded(folder: Path) -> Recorded:
    """What a folder of recorded answers holds."""
    responses, scores, items = (
        next((folder / name for name in names if (folder / name).is_file()), None)
        for names in (RESPONSES, ("scores.parquet",), ("items.parquet",))
    )
    return Recorded(folder=folder, responses=responses, scores=scores, items=items)


def load(name: str, path: Path | str, *, where: str | None = None) -> Model:
    """Say what lies at a model's path.

    `where` is the key in params that names the path, if not `models.<name>.path`. Raises ModelError where
    nothing lies there, where weights are pickled, cut short or not fetched, or where a descriptor is wrong.
    """
    path, where = Path(path), where or f"models.{name}.path"
    if path.is_dir():
        if any((path / file).is_file() for file in RECORDED_NAMES):
            return Model(name, path, recorded(path))
        weights = Weights(folder=str(path))
        check_weights(where, path)
        return Model(name, path, weights)
    if not path.exists():
        raise ModelError(f"{where}: '{path}' does not exist. Name a folder of weights or a descriptor file.")
    if path.suffix not in (".yaml", ".yml"):
        raise ModelError(f"{where}: '{path}' is neither a folder nor a descriptor (.yaml).")
    return Model(name, path, _descriptor(path))


def with_system_prompt(messages: Messages, system_prompt: str | None) -> list[dict[str, str]]:
    """The conversation as the model is sent it: the model's system prompt first, unless it has its own."""
    sent = [{"role": m["role"], "content": m["content"]} for m in messages]
    if system_prompt is None or (sent and sent[0]["role"] == "system"):
        return sent
    return [{"role": "system", "content": system_prompt}, *sent]


def files(model: Model) -> list[Path]:
    """The files and folders whose bytes decide what a model says, also those that its descriptor names."""
    named: list[str | None] = [str(model.path)]
    if isinstance(model.source, Weights):
        named += [model.source.folder, model.source.adapter, model.source.chat_template]
    return [path for path in dict.fromkeys(Path(name) for name in named if name) if path.exists()]


def _descriptor(path: Path) -> Weights | Endpoint:
    try:
        document: Any = yaml.read(path)
    except yaml.YamlError as error:
        raise ModelError(f"{path}: not readable as YAML ({error}).") from error
    if not isinstance(document, Mapping):
        raise ModelError(f"{path}: a descriptor is a mapping with 'hub', 'folder' or 'endpoint'.")
    if "endpoint" in document:
        return validate(Endpoint, document, where=str(path))
    weights = validate(Weights, document, where=str(path))
    if (weights.hub is None) == (weights.folder is None):
        raise ModelError(f"{path}: name exactly one of 'hub', 'folder' or 'endpoint'.")
    if weights.folder is not None:
        if not Path(weights.folder).is_dir():
            raise ModelError(f"{path}: folder '{weights.folder}' does not exist.")
        check_weights(str(path), Path(weights.folder))
    if weights.adapter is not None and Path(weights.adapter).is_dir():
        check_adapter(str(path), Path(weights.adapter))
    return weights


def aligned(base: Model, path: Path) -> Model:
    """What training made of `base`: weights of its own, or an adapter over those of the base.

    It is asked as its base is, system prompt included. Raises ModelError as `load` does.
    """
    if not path.is_dir():
        raise ModelError(
            f"{path}: no such folder of aligned weights. Run the stage that writes it: `dvc repro`."
        )
    if not isinstance(base.source, Weights):
        raise ModelError(f"'{base.path}' holds no weights, so nothing was trained from it.")
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        check_adapter("aligned", path)
        return Model("aligned", path, base.source.model_copy(update={"adapter": str(path)}))
    check_weights("aligned", path)
    source = Weights(folder=str(path), system_prompt=base.source.system_prompt, date=base.source.date)
    return Model("aligned", path, source)
