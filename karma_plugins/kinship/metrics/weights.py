"""Kinship metric `weights`: how alike two models' weights moved away from a common base (Hu et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Model, Options, hookimpl
from karma_plugins.errors import ModelError, did_you_mean
from karma_plugins.kinship.pairs import Floats, Pairs, gather, pairs_of, rows
from karma_plugins.kinship.tensors import Tensor, packed_types, tensors
from karma_plugins.models import Weights

Measure = Literal["pearson", "cosine", "euclidean"]
#: Sums of one tensor, in this order: count, x, y, x x, y y, x y.
SUMS = 6
NO_BASE = "no common base is named (option `base`; `bare: true` compares the weights themselves)"


class WeightsOptions(Options):
    """What the weights are compared with, and how."""

    base: str | None = Field(
        None, description="name of a candidate or folder of weights that all models come from"
    )
    bare: bool = Field(False, description="compare the weights themselves, for models without a known base")
    measure: Measure = Field("pearson", description="of the differences to the base")
    per_tensor: bool = Field(False, description="a row for each tensor too, its name as the competency")


def measure(evidence: Evidence, options: WeightsOptions) -> pl.DataFrame:
    """Pearson correlation, cosine or Euclidean distance of two models' differences to their common base.

    `raw` is that number; kinship is it, and 0 where it is below 0; for the Euclidean distance d it is
    1 - d / (|x| + |y|), which is 1 for equal and 0 for opposite differences x and y. Weights are read a piece
    at a time. Null with a reason where no base is named (unless `bare`), a model is no folder of weights, is
    the base itself, is quantised, did not move, or where names or shapes of tensors differ. Raises ModelError
    for a base that does not exist, and for files that are not whole.
    """
    pairs = pairs_of(evidence)
    packed = {model.name: _packed(model) for model in evidence.models}
    known = {model.name: {} if packed[model.name] else _tensors(model) for model in evidence.models}
    base, label = _base(evidence, options.base)
    unnamed = base is None and not options.bare
    reasons = [
        NO_BASE
        if unnamed
        else packed[pairs.names[i]] or packed[pairs.names[j]] or _unfit(pairs, i, j, known, base, label)
        for i, j in zip(pairs.first, pairs.second, strict=True)
    ]
    fit = [k for k, reason in enumerate(reasons) if reason is None]
    names = sorted({name for k in fit for name in known[pairs.names[pairs.first[k]]]})
    sums = np.zeros((len(names), len(pairs), SUMS))
    for place, name in enumerate(names):
        _add(sums[place], name, pairs, fit, known, base)
    parts = [_rows(pairs, None, sums.sum(axis=0), reasons, options.measure)]
    if options.per_tensor:
        parts += [_rows(pairs, name, sums[i], reasons, options.measure) for i, name in enumerate(names)]
    return gather(parts if len(pairs) else [])


def _folder(model: Model) -> Path | None:
    """Where a model's whole weights lie, if they lie anywhere."""
    source = model.source
    if not isinstance(source, Weights) or source.folder is None or source.adapter is not None:
        return None
    return Path(source.folder)


def _tensors(model: Model) -> dict[str, Tensor]:
    """A model's tensors; none where it is no folder of whole weights."""
    folder = _folder(model)
    return {} if folder is None else tensors(folder)


def _packed(model: Model) -> str | None:
    """Why a model's numbers can't be read: those that are left would stand for all."""
    folder = _folder(model)
    kinds = [] if folder is None else packed_types(folder)
    return f"{model.name} holds quantised tensors ({', '.join(kinds)})" if kinds else None


def _base(evidence: Evidence, name: str | None) -> tuple[dict[str, Tensor] | None, str | None]:
    """The base's tensors, and its name where it is a candidate."""
    if name is None:
        return None, None
    models = {model.name: model for model in evidence.models}
    held = _tensors(models[name]) if name in models else tensors(Path(name)) if Path(name).is_dir() else {}
    if not held:
        raise ModelError(
            f"metric 'weights': base '{name}' is neither a candidate with weights nor a folder of weights."
            f"{did_you_mean(name, models)}"
        )
    return held, name if name in models else None


def _unfit(
    pairs: Pairs,
    first: int,
    second: int,
    known: Mapping[str, Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None,
    label: str | None,
) -> str | None:
    """Why two models' weights can't be compared; null where they can."""
    names = pairs.names[first], pairs.names[second]
    for name in names:
        if not known[name]:
            return f"{name} is no folder of weights"
        if name == label:
            return f"{name} is the base itself, which has not moved"
    shapes = [{k: t.shape for k, t in known[name].items()} for name in names]
    if base is not None:
        for name, shape in zip(names, shapes, strict=True):
            if shape != {k: t.shape for k, t in base.items()}:
                return f"no common base: the tensors of {name} differ from the base's in name or shape"
    if shapes[0] != shapes[1]:
        return "the tensors differ in name or shape"
    return None


def _add(
    sums: Floats,
    name: str,
    pairs: Pairs,
    fit: Sequence[int],
    known: Mapping[str, Mapping[str, Tensor]],
    base: Mapping[str, Tensor] | None,
) -> None:
    """Add one tensor's sums for all pairs that can be compared, every model's piece read once."""
    groups: dict[tuple[int, ...], set[int]] = {}
    for k in fit:
        tensor = known[pairs.names[pairs.first[k]]].get(name)
        if tensor is not None:
            groups.setdefault(tensor.shape, set()).update((int(pairs.first[k]), int(pairs.second[k])))
    for members in groups.values():
        order = sorted(members)
        step = max(1, (1 << 20) // len(order))
        readers = [known[pairs.names[i]][name].pieces(step) for i in order]
        origin = base[name].pieces(step) if base is not None else None
        total = np.zeros((len(order) + 1, len(order) + 1))
        for piece in _together(readers, origin):
            total += piece @ piece.T
        place = {model: at for at, model in enumerate(order)}
        for k in fit:
            a, b = place.get(int(pairs.first[k])), place.get(int(pairs.second[k]))
            if a is not None and b is not None:
                sums[k] += total[-1, -1], total[a, -1], total[b, -1], total[a, a], total[b, b], total[a, b]


def _together(
    readers: Sequence[Iterator[NDArray[np.float64]]], origin: Iterator[NDArray[np.float64]] | None
) -> Iterator[Floats]:
    """The same piece of all models, less the base's, with a row of ones below: all sums are its square."""
    for pieces in zip(*readers, strict=True):
        block = np.empty((len(pieces) + 1, len(pieces[0])))
        block[:-1] = pieces
        block[-1] = 1.0
        if origin is not None:
            block[:-1] -= next(origin)
        yield block


def _rows(
    pairs: Pairs, tensor: str | None, sums: Floats, reasons: Sequence[str | None], kind: Measure
) -> pl.DataFrame:
    n, x, y, xx, yy, xy = sums.T
    if kind == "pearson":
        with np.errstate(invalid="ignore", divide="ignore"):
            cover, one, other = xy - x * y / n, xx - x * x / n, yy - y * y / n
    else:
        cover, one, other = xy, xx, yy
    moved = (one > 1e-30) & (other > 1e-30)
    with np.errstate(invalid="ignore", divide="ignore"):
        if kind == "euclidean":
            raw = np.sqrt(np.maximum(xx + yy - 2 * xy, 0.0))
            kinship = 1.0 - raw / (np.sqrt(xx) + np.sqrt(yy))
        else:
            raw = np.clip(cover / np.sqrt(one * other), -1.0, 1.0)
            kinship = np.maximum(raw, 0.0)
    still = "a model has not moved from the base"
    why = [r or (f"{still} in this tensor" if tensor else still) for r in reasons]
    usable = moved & np.array([r is None for r in reasons], dtype=bool)
    return rows(
        pairs,
        tensor,
        np.where(usable, kinship, math.nan),
        raw=np.where(usable, raw, math.nan),
        n_items=n.astype(np.int64),
        reason=why,
    )


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="weights", options=WeightsOptions, measure=measure)]
