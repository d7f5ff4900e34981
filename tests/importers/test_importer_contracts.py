"""Every built-in importer keeps the contract that authors of importers are held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from karma_plugins.registry import manager
from karma_plugins.testing import ImporterContract
from tests.importers.test_layouts import SAMPLES


def built_in(name: str) -> Any:
    return manager.load([]).plugins["importers", name][0]


class BuiltIn(ImporterContract):
    """A built-in importer with the sample of its layout."""

    def sources(self, folder: Path) -> list[Path]:
        lines = "".join(json.dumps(record) + "\n" for record in SAMPLES[self.plugin.name])
        (folder / "x.jsonl").write_text(lines)
        return [folder / "x.jsonl"]


class TestTrl(BuiltIn):
    plugin = built_in("trl")


class TestTulu3(BuiltIn):
    plugin = built_in("tulu3")


class TestUltraFeedbackBinarized(BuiltIn):
    plugin = built_in("ultrafeedback-binarized")


class TestSkywork(BuiltIn):
    plugin = built_in("skywork")


class TestUltraFeedback(BuiltIn):
    plugin = built_in("ultrafeedback")


class TestHhRlhf(BuiltIn):
    plugin = built_in("hh-rlhf")


class TestHelpSteer2(BuiltIn):
    plugin = built_in("helpsteer2")


class TestHelpSteer3(BuiltIn):
    plugin = built_in("helpsteer3")


class TestNectar(BuiltIn):
    plugin = built_in("nectar")


class TestShp(BuiltIn):
    plugin = built_in("shp")


class TestOpenAssistant(BuiltIn):
    plugin = built_in("open-assistant")


class TestUnpaired(BuiltIn):
    plugin = built_in("unpaired")


class TestArena(BuiltIn):
    plugin = built_in("arena")


class TestAlpacaEval(ImporterContract):
    plugin = built_in("alpaca-eval")

    def sources(self, folder: Path) -> list[Path]:
        home = folder / "results" / "m"
        (home / "judge").mkdir(parents=True)
        output = {"instruction": "How tall is it?", "output": "tall", "dataset": "koala"}
        (home / "model_outputs.json").write_text(json.dumps([output]))
        said = {
            "instruction": "How tall is it?", "output_1": "base", "generator_1": "b", "output_2": "tall",
            "preference": 1.9,
        }  # fmt: skip
        (home / "judge" / "annotations.json").write_text(json.dumps([said]))
        return [folder]


class People(ImporterContract):
    """What people said comes back as verdicts alone, without prompts or models."""

    key = f"{'a' * 16}.{'b' * 16}.{'c' * 16}"


class TestLabelStudio(People):
    plugin = built_in("label-studio")
    sample = json.dumps({"task_key": People.key, "preference": "Answer 1", "annotator": 1}) + "\n"


class TestArgilla(People):
    plugin = built_in("argilla")
    said: ClassVar = {"preference": [{"value": "answer_1", "user_id": "u"}]}
    sample = json.dumps({"id": People.key, "responses": said}) + "\n"
