"""What our own pipeline has that others have not, for the rooms that serve any pipeline."""

from __future__ import annotations

from typing import Final

from karma_plugins.lineage import Settings

OURS: Final = Settings(
    code="karma.lock.json",
    aside=("tracking",),
    experiment="tracking.experiment",
    system_metrics="tracking.system_metrics",
    telling=("curriculum.pairing", "train.objective"),
    libraries=(
        "karma-plugins", "torch", "transformers", "trl", "lm-eval", "mlflow", "dvc", "polars", "numpy",
    ),
    models={"data/model": "aligned"},
    register="register_as",
    describing=("hub", "folder", "endpoint", "model", "revision", "adapter"),
)  # fmt: skip
