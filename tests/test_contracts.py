"""Built-ins that need a model or candidates keep the contracts that plugin authors are held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from karma_plugins import models, schemas
from karma_plugins.contracts import Model, TrainingJob
from karma_plugins.params import TrainSection
from karma_plugins.registry import manager
from karma_plugins.testing import GeneratorContract, ObjectiveContract, PairingContract, ProfilerContract
from tests.tiny import write_model
from tests.training.preferences import pairs


def built_in(kind: str, name: str) -> Any:
    return manager.load([]).plugins[kind, name][0]


class TestKin(PairingContract):
    plugin = built_in("pairings", "kin")
    options: ClassVar = {"radius": 0.5}


class TestRandom(PairingContract):
    plugin = built_in("pairings", "random")


class TestBestWorst(PairingContract):
    plugin = built_in("pairings", "best-worst")


class TestDistant(PairingContract):
    plugin = built_in("pairings", "distant")


class TestTargetKin(PairingContract):
    plugin = built_in("pairings", "target-kin")


class WithTinyModel:
    """Gives the contract a random model with weights of its own."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = write_model(tmp_path_factory.mktemp("contract") / "tiny")

    def model(self) -> Model:
        return models.load("tiny", self.folder)


class TestTransformers(WithTinyModel, GeneratorContract):
    plugin = built_in("generators", "transformers")
    options: ClassVar = {"max_new_tokens": 4}


class TestRecordedProfile(ProfilerContract):
    plugin = built_in("profilers", "recorded")
    tasks: ClassVar = {"knowledge": ["mmlu"]}

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        row = {"model": "known", "competency": "knowledge", "task": "mmlu", "metric": "acc", "score": 0.5}
        scores = pl.DataFrame([row | {"stderr": None, "n": 10}], schema=schemas.SCORES.columns)
        (tmp_path / "known").mkdir()
        scores.write_parquet(tmp_path / "known" / "scores.parquet")
        self.path = tmp_path / "known"

    def model(self) -> Model:
        return models.load("known", self.path)


class TestDpo(ObjectiveContract):
    plugin = built_in("objectives", "dpo")

    @pytest.fixture(autouse=True)
    def _base(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.base = models.load("base", write_model(tmp_path_factory.mktemp("contract") / "base")).source

    def job(self, folder: Path) -> TrainingJob:
        return TrainingJob(
            start=self.base,
            reference=self.base,
            pairs=pairs(4),
            steps=1,
            output=folder / "out",
            checkpoints=folder / "checkpoints",
            settings=TrainSection(base="unused", batch_size=4, bf16=False),
            report=lambda metrics, step: None,
            base=self.base,
            all_pairs=pairs(4),
            shared=folder / "shared",
        )
