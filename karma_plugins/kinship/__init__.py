"""Kinship: how alike every two models are, by each metric, with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, KinshipMetric, Model
from karma_plugins.errors import PluginError, did_you_mean
from karma_plugins.families import families, sentences
from karma_plugins.kinship.clustering import cluster
from karma_plugins.registry import Bound

__all__ = ["families", "kinship", "points", "sentences", "summary"]

#: Kinship may miss [0,1] by so much rounding.
ROUNDING = 1e-9
#: Pairs that are looked at at a time.
BLOCK = 4_096


def kinship(
    models: Sequence[Model],
    scores: pl.DataFrame,
    items: pl.DataFrame,
    metrics: Sequence[Bound[KinshipMetric]],
    *,
    primary: str,
    responses: pl.DataFrame | None = None,
    prompts: pl.DataFrame | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Measure all pairs of models by all metrics; gives table `kinship`.

    `scores`, `items` and `responses` may speak of other models too; `prompts` tell the answers' competencies.
    `primary` is the name of the metric that judge and curriculum act on. Raises PluginError where a metric
    breaks its contract, where a blend asks for a metric that is not among `metrics`, or for itself.
    """
    by_name = {bound.name: bound for bound in metrics}
    if primary not in by_name:
        raise PluginError(f"kinship: '{primary}' is not measured.{did_you_mean(primary, by_name)}")
    ordered = sorted(models, key=lambda model: model.name)
    names = [model.name for model in ordered]
    by_metric: dict[str, pl.DataFrame] = {}
    under_way: list[str] = []

    def measure(name: str) -> pl.DataFrame:
        if name not in by_name:
            raise PluginError(
                f"kinship: metric '{name}' is asked for, but not measured.{did_you_mean(name, by_name)} "
                "Name it in kinship.metrics."
            )
        if name in under_way:
            raise PluginError(
                f"kinship: metric '{name}' asks for itself ({' -> '.join([*under_way, name])})."
            )
        if name not in by_metric:
            under_way.append(name)
            by_metric[name] = _measured(by_name[name], evidence)
            under_way.pop()
        return by_metric[name]

    evidence = Evidence(
        models=ordered,
        scores=_of(scores, names, schemas.SCORES),
        items=_of(items, names, schemas.ITEMS),
        responses=None if responses is None else _of(responses, names, schemas.RESPONSES),
        seed=seed,
        measure=measure,
        prompts=prompts,
    )
    parts = [measure(name).with_columns(primary=pl.lit(name == primary)) for name in sorted(by_name)]
    table = pl.concat([schemas.KINSHIP.empty(), *parts])
    return table.sort(schemas.KINSHIP.key)


def _of(table: pl.DataFrame, names: Sequence[str], schema: schemas.Schema) -> pl.DataFrame:
    """The rows of some models in the order of the key, so that no result depends on the order of rows."""
    return table.filter(pl.col("model").is_in(list(names))).sort(schema.key)


def _measured(bound: Bound[KinshipMetric], evidence: Evidence) -> pl.DataFrame:
    """One metric's rows, completed and checked."""
    frame = bound.plugin.measure(evidence, bound.options)
    columns = schemas.KINSHIP.columns
    for column in ("model_a", "model_b", "kinship"):
        if column not in frame.columns:
            raise PluginError(f"metric {bound.version}: gives no column '{column}'.")
    unknown = [c for c in frame.columns if c not in columns]
    if unknown:
        raise PluginError(f"metric {bound.version}: column '{unknown[0]}' is not in table kinship.")
    try:
        full = frame.with_columns(
            metric=pl.lit(bound.name), version=pl.lit(bound.version), primary=pl.lit(False)
        ).with_columns(
            pl.lit(None, t).alias(c)
            for c, t in columns.items()
            if c not in frame.columns and c not in ("metric", "version", "primary")
        )
        full = full.select(pl.col(c).cast(t) for c, t in columns.items())
    except pl.exceptions.PolarsError as error:
        raise PluginError(f"metric {bound.version}: {str(error).splitlines()[0]}.") from error
    _check(full, bound, {model.name for model in evidence.models})
    full = full.with_columns(pl.col("kinship", "low", "high").clip(0.0, 1.0))
    return full if full["uncertain"].null_count() < full.height else full.with_columns(_uncertain(full))


def _check(frame: pl.DataFrame, bound: Bound[KinshipMetric], names: set[str]) -> None:
    """Raise PluginError for the first row that breaks the contract of a metric."""
    value = pl.col("kinship")
    broken = {
        "a pair is not in order (model_a < model_b)": pl.col("model_a") >= pl.col("model_b"),
        "a model is no candidate": ~pl.col("model_a").is_in(names) | ~pl.col("model_b").is_in(names),
        "kinship lies outside [0,1]": value.is_nan() | ~value.is_between(-ROUNDING, 1 + ROUNDING),
        "kinship is null without a reason": value.is_null() & pl.col("reason").is_null(),
        "a pair is there twice": pl.struct("competency", "model_a", "model_b").is_duplicated(),
    }
    for what, rule in broken.items():
        bad = frame.filter(rule)
        if bad.height:
            row = bad.select("competency", "model_a", "model_b", "kinship").row(0)
            raise PluginError(f"metric {bound.version}: {what} ({', '.join(map(str, row))}).")


def _uncertain(frame: pl.DataFrame) -> pl.Series:
    """Whether a pair's interval is wider than what tells it from the other pairs of its two models.

    A pairing asks which of a model's relatives are near; so the interval of (a, b) is held against the median
    of |kinship(a, b) - kinship(a, c)| and |kinship(a, b) - kinship(c, b)| over all other models c. Null where
    there is no interval or no third model.
    """
    flags = np.full(frame.height, None, dtype=object)
    rows = frame.with_row_index("row").partition_by("competency", maintain_order=True)
    for part in rows:
        names = sorted({*part["model_a"], *part["model_b"]})
        place = {name: i for i, name in enumerate(names)}
        a = np.array([place[n] for n in part["model_a"]])
        b = np.array([place[n] for n in part["model_b"]])
        value = part["kinship"].to_numpy()
        square = np.full((len(names), len(names)), np.nan)
        square[a, b] = square[b, a] = value
        width = (part["high"] - part["low"]).to_numpy()
        flags[part["row"].to_numpy()] = _wider(square, a, b, value, width)
    return pl.Series("uncertain", flags.tolist(), dtype=pl.Boolean)


def _wider(
    square: NDArray[np.float64],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    value: NDArray[np.float64],
    width: NDArray[np.float64],
) -> list[bool | None]:
    uncertain: list[bool | None] = []
    for start in range(0, len(a), BLOCK):
        one, other = a[start : start + BLOCK], b[start : start + BLOCK]
        middle = value[start : start + BLOCK, None]
        gaps = np.abs(np.concatenate([square[one] - middle, square[other] - middle], axis=1))
        pair = np.arange(len(one))
        gaps[pair, other] = gaps[pair, len(square) + one] = np.nan  # the pair itself
        gaps.sort(axis=1)  # what is not known comes last
        count = (~np.isnan(gaps)).sum(axis=1)
        low, high = (gaps[pair, np.maximum(place, 0)] for place in ((count - 1) // 2, count // 2))
        wide = width[start : start + BLOCK]
        known = (count > 0) & ~np.isnan(wide)
        flags = wide > (low + high) / 2
        uncertain += [
            flag if sure else None for flag, sure in zip(flags.tolist(), known.tolist(), strict=True)
        ]
    return uncertain


def summary(table: pl.DataFrame) -> dict[str, float]:
    """Numbers for `dvc metrics`: pairs in all, and for each metric its overall mean, spread and gaps.

    Keys are `pairs` and `<metric>.mean`, `.low`, `.high` (least and greatest kinship), `.unknown` and
    `.uncertain` (pairs); a metric that knows no pair has no mean.
    """
    overall = table.filter(pl.col("competency").is_null())
    numbers = {"pairs": float(overall.select("model_a", "model_b").n_unique())}
    for (metric,), rows in overall.sort("metric").group_by("metric", maintain_order=True):
        known = rows["kinship"].drop_nulls().sort()
        counts = {"unknown": rows.height - len(known), "uncertain": int(rows["uncertain"].sum())}
        spread = {"mean": known.mean(), "low": known.min(), "high": known.max()} if len(known) else {}
        numbers |= {f"{metric}.{name}": float(value) for name, value in {**spread, **counts}.items()}  # type: ignore[arg-type]
    return numbers


def points(table: pl.DataFrame) -> pl.DataFrame:
    """Points for `dvc plots`: a cell for each ordered pair, metric and competency (`overall` for null).

    Columns metric, competency, model_a, model_b, kinship, low, high, and order_a and order_b: the models'
    places in the order of clustering. Rows are in that order; a model with itself is left out.
    """
    half = table.with_columns(pl.col("competency").fill_null("overall"))
    parts = [schemas.KINSHIP.empty().with_columns(order_a=pl.lit(0), order_b=pl.lit(0))]
    for _, rows in half.sort("metric", "competency").group_by("metric", "competency", maintain_order=True):
        order = {name: place for place, name in enumerate(cluster(rows).models)}
        for a, b in (("model_a", "model_b"), ("model_b", "model_a")):
            turned = rows.with_columns(model_a=a, model_b=b)
            parts.append(
                turned.with_columns(
                    pl.col(f"model_{side}")
                    .replace_strict(order, return_dtype=pl.Int32)
                    .alias(f"order_{side}")
                    for side in "ab"
                )
            )
    columns = ("metric", "competency", "model_a", "model_b", "kinship", "low", "high", "order_a", "order_b")
    return pl.concat(parts).select(columns).sort("metric", "competency", "order_a", "order_b")
