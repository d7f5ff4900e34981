"""Every reader of files under a fuzzer, the same files each time (`fuzzing` runs on)."""

from __future__ import annotations

import pytest

from tests.survival.fuzz_targets import TARGETS, Target
from tests.survival.fuzzing import fuzz

#: Files for each reader.
EXAMPLES = 50


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_reader_reads_or_refuses_and_nothing_else(target: Target) -> None:
    ends = fuzz(target, EXAMPLES)
    assert sum(ends.values()) >= EXAMPLES // 2
    assert not ends["says nothing"]
