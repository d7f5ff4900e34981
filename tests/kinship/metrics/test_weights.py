"""Kinship of weights: against a plain computation, in pieces, in every type, with little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.errors import ModelError
from karma_plugins.kinship import tensors
from karma_plugins.kinship.metrics import weights
from karma_plugins.models import Endpoint, Weights
from tests.kinship.quizzes import pair

Arrays = dict[str, np.ndarray[Any, Any]]


def save(folder: Path, arrays: Arrays, dtype: str = "F32") -> None:
    """A safetensors file as the format's own description has it."""
    kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<f4"}[dtype]
    parts, header, at = [], {}, 0
    for name, array in arrays.items():
        raw = array.astype(kind)
        if dtype == "BF16":
            raw = (raw.view("<u4") >> 16).astype("<u2")
        data = raw.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    (folder / "config.json").write_text("{}")


def model(name: str, folder: Path) -> Model:
    return Model(name, folder, Weights(folder=str(folder)))


def evidence(*models: Model) -> Evidence:
    return Evidence(models, schemas.SCORES.empty(), schemas.ITEMS.empty())


def measured(given: Evidence, **options: Any) -> pl.DataFrame:
    return weights.measure(given, weights.WeightsOptions(**options))


@pytest.fixture
def family(tmp_path: Path) -> tuple[Evidence, dict[str, Arrays]]:
    rng = np.random.default_rng(0)
    base = {
        "embed": rng.normal(size=(50, 16)),
        "layer.0": rng.normal(size=(16, 33)),
        "norm": rng.normal(size=16),
    }
    step = {k: rng.normal(size=v.shape) for k, v in base.items()}
    made: dict[str, Arrays] = {"base": base}
    for name, share in (("one", 0.8), ("two", 0.6)):
        made[name] = {k: v + 0.1 * (share * step[k] + rng.normal(size=v.shape)) for k, v in base.items()}
    made["stranger"] = {"embed": rng.normal(size=(50, 8)), "layer.0": rng.normal(size=(8, 33))}
    for name, arrays in made.items():
        made[name] = {k: v.astype(np.float32) for k, v in arrays.items()}
        save(tmp_path / name, made[name])
    return evidence(*(model(name, tmp_path / name) for name in made)), made


def delta(made: dict[str, Arrays], name: str, tensor: str | None = None) -> Any:
    kept = [t for t in made["base"] if tensor in (None, t)]
    parts = [(made[name][t].astype(float) - made["base"][t].astype(float)).ravel() for t in kept]
    return np.concatenate(parts)


@pytest.mark.parametrize("tensor", [None, "embed", "norm"])
@pytest.mark.parametrize("kind", ["pearson", "cosine", "euclidean"])
def test_siblings_against_plain_numpy(
    family: tuple[Evidence, dict[str, Arrays]], kind: str, tensor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, made = family
    frame = measured(given, base="base", measure=kind, per_tensor=True)
    x, y = delta(made, "one", tensor), delta(made, "two", tensor)
    norms = np.linalg.norm(x), np.linalg.norm(y)
    expected = {
        "pearson": np.corrcoef(x, y)[0, 1],
        "cosine": x @ y / (norms[0] * norms[1]),
        "euclidean": np.linalg.norm(x - y),
    }[kind]
    row = pair(frame, "one", "two", tensor)
    assert row["raw"] == pytest.approx(expected, abs=1e-9)
    kinship = 1 - expected / sum(norms) if kind == "euclidean" else max(expected, 0)
    assert row["kinship"] == pytest.approx(kinship, abs=1e-9)
    assert row["n_items"] == len(x)


def test_a_stranger_of_another_shape_and_the_base_itself_are_null(
    family: tuple[Evidence, dict[str, Arrays]],
) -> None:
    frame = measured(family[0], base="base")
    row = pair(frame, "one", "stranger")
    assert row["kinship"] is None
    assert row["reason"] == "no common base: the tensors of stranger differ from the base's in name or shape"
    assert pair(frame, "base", "one")["reason"] == "base is the base itself, which has not moved"
    assert pair(measured(family[0]), "one", "two")["reason"] == weights.NO_BASE
    bare = measured(family[0], bare=True)
    assert pair(bare, "one", "stranger")["reason"] == "the tensors differ in name or shape"
    assert pair(bare, "one", "two")["kinship"] > 0.9  # bare weights of siblings hardly differ


def test_the_base_may_be_a_folder(family: tuple[Evidence, dict[str, Arrays]], tmp_path: Path) -> None:
    others = evidence(*(m for m in family[0].models if m.name != "base"))
    by_name, by_folder = measured(family[0], base="base"), measured(others, base=str(tmp_path / "base"))
    assert pair(by_name, "one", "two") == pair(by_folder, "one", "two")
    with pytest.raises(ModelError, match=r"base 'bose' is neither a candidate.*Did you mean 'base'"):
        measured(family[0], base="bose")


def test_a_copy_is_one_and_an_opposite_is_zero(
    family: tuple[Evidence, dict[str, Arrays]], tmp_path: Path
) -> None:
    given, made = family
    save(tmp_path / "copy", made["one"])
    save(tmp_path / "back", {k: 2 * made["base"][k] - v for k, v in made["one"].items()})
    more = evidence(*given.models, model("copy", tmp_path / "copy"), model("back", tmp_path / "back"))
    for kind in ("pearson", "cosine", "euclidean"):
        frame = measured(more, base="base", measure=kind)
        assert pair(frame, "one", "copy")["kinship"] == pytest.approx(1.0)
        assert pair(frame, "one", "back")["kinship"] == pytest.approx(0.0, abs=1e-5)


def test_no_weights_and_no_move_are_null(family: tuple[Evidence, dict[str, Arrays]], tmp_path: Path) -> None:
    save(tmp_path / "still", family[1]["base"])
    remote = Model("remote", tmp_path / "remote.yaml", Endpoint(endpoint="http://localhost/v1", model="m"))
    frame = measured(evidence(*family[0].models, model("still", tmp_path / "still"), remote), base="base")
    assert pair(frame, "one", "remote")["reason"] == "remote is no folder of weights"
    assert pair(frame, "one", "still")["reason"] == "a model has not moved from the base"


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_every_floating_type_is_read(dtype: str, tmp_path: Path) -> None:
    values = np.array([[0.5, -1.25, 3.0], [1e-3, -2.0, 64.0]], dtype=np.float32)
    save(tmp_path / "m", {"w": values}, dtype)
    (found,) = tensors.tensors(tmp_path / "m").values()
    numbers = np.concatenate(list(found.pieces(step=4)))
    np.testing.assert_allclose(numbers, values.ravel(), rtol=1e-2 if dtype == "BF16" else 1e-3)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{oops")
    with pytest.raises(ModelError, match=r"model.safetensors: its safetensors header can't be read"):
        tensors.tensors(tmp_path)
    save(tmp_path, {"w": np.zeros(100)})
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match="ends before its last tensor"):
        list(tensors.tensors(tmp_path)["w"].pieces())


def test_shards_are_read_as_the_index_names_them(
    family: tuple[Evidence, dict[str, Arrays]], tmp_path: Path
) -> None:
    """A stale file of an earlier save, an adapter and another format's file are none of the model."""
    given, made = family
    folder, place = tmp_path / "sharded", {}
    for i, (name, array) in enumerate(made["one"].items(), start=1):
        save(tmp_path / f"shard-{i}", {name: array})
        folder.mkdir(exist_ok=True)
        place[name] = f"model-0000{i}-of-00003.safetensors"
        (tmp_path / f"shard-{i}" / "model.safetensors").rename(folder / place[name])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    for stale in ("model-00001-of-00002", "adapter_model", "consolidated", "zz"):
        save(tmp_path / stale, {name: array[::-1].copy() for name, array in made["one"].items()})
        (tmp_path / stale / "model.safetensors").rename(folder / f"{stale}.safetensors")
    frame = measured(evidence(*given.models, model("sharded", folder)), base="base")
    assert pair(frame, "one", "sharded")["kinship"] == pytest.approx(1.0)
    (folder / place["norm"]).unlink()
    with pytest.raises(ModelError, match="is missing, which model"):
        measured(evidence(*given.models, model("sharded", folder)), base="base")


def test_quantised_weights_are_null_and_not_compared_by_what_is_left(
    family: tuple[Evidence, dict[str, Arrays]], tmp_path: Path
) -> None:
    given, made = family
    save(tmp_path / "packed", made["one"])
    file = tmp_path / "packed" / "model.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + length])
    header["embed"] |= {"dtype": "U8", "shape": [50, 64]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + file.read_bytes()[8 + length :])
    frame = measured(evidence(*given.models, model("packed", tmp_path / "packed")), base="base")
    assert pair(frame, "one", "packed")["reason"] == "packed holds quantised tensors (U8)"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc for the peak of one process")
def test_large_models_need_little_memory(tmp_path: Path) -> None:
    """Two folders of 200 MB each in bfloat16: what is added to the interpreter's own memory stays small."""
    size = 100_000_000
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        header = json.dumps(
            {"w": {"dtype": "BF16", "shape": [10_000, 10_000], "data_offsets": [0, 2 * size]}}
        )
        with (tmp_path / name / "model.safetensors").open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header.encode())
            piece = np.random.default_rng(ord(name)).normal(size=1_000_000).astype("<f4")
            raw = (piece.view("<u4") >> 16).astype("<u2").tobytes()
            for _ in range(100):
                stream.write(raw)
    code = f"""
from pathlib import Path
from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.kinship.metrics import weights
from karma_plugins.models import Weights

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

models = [Model(n, Path(n), Weights(folder=str(Path({str(tmp_path)!r}) / n))) for n in "ab"]
given = Evidence(models, schemas.SCORES.empty(), schemas.ITEMS.empty())
before = peak()
frame = weights.measure(given, weights.WeightsOptions(bare=True))
print((peak() - before) * 1024, frame["n_items"][0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added, count = map(int, run.stdout.split())
    assert count == size
    assert 0 < added < 100e6
