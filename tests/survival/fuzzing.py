"""Whole files, changed at random: a reader reads them or says in one line what is wrong, and nothing else.

    python -m tests.survival.fuzzing SECONDS

fuzzes all readers for so long, with new seeds each round, and prints how many files each was given.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from karma_plugins.errors import KarmaError
from tests.ending import ends_within
from tests.survival.fuzz_targets import TARGETS, Target

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "karma-hypothesis")
#: Seconds after which a reader counts as one that never ends.
ENDLESS = 20
#: What readers stumble over: pieces to put anywhere into a file.
ODD = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n", b"\xe2\x80\xa8", b"\x1a",
    b'"', b"'",
    b"{", b"}", b"[", b"]", b",", b":", b"- ", b"\t", b"\\", b"\\u0000", b"\\ud800", b"null", b"true", b"NaN",
    b"-Infinity", b"1e999", b"-0", b"0" * 400, b"9" * 400, b"[" * 3000, b'{"a":' * 2000, b"*x", b"&x ",
    b"<<: *x",
    b"!!python/object:os.system x", b"{{x}}", b"%YAML 9.9\n---\n", b"---\n", b'"a": 1, "a": 2,', b"PAR1",
    b"{}", b"[]",
    b'""', b"a,b,c,d\n", b"-1", b"3.5", b'["x"]', b'{"role": "user"}', b"\xf0\x9f\x98\x80", b"__proto__",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "remove", "repeat", "flip", "cut", "replace"]),
        st.floats(0, 1), st.floats(0, 1), st.sampled_from(ODD) | st.binary(max_size=6),
    ),
    max_size=5,
)  # fmt: skip


def edited(content: bytes, edits: list[tuple[str, float, float, bytes]]) -> bytes:
    """A file with pieces put in, taken out, doubled, flipped or replaced."""
    for kind, start, length, piece in edits:
        at = int(start * len(content))
        end = min(len(content), at + 1 + int(length * 20))
        if kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "remove":
            content = content[:at] + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[at:end] * 3 + content[end:]
        elif kind == "flip":
            content = content[:at] + bytes([content[at] ^ 1 << int(length * 7)]) + content[at + 1 :] \
                if at < len(content) else content  # fmt: skip
        elif kind == "cut":
            content = content[:at]
        else:
            content = content[:at] + piece + content[end:]
    return content


def _placed(value: Any, at: list[float], new: Any) -> Any:
    """A JSON value with another at some place within it."""
    if not at or not isinstance(value, dict | list) or not value:
        return new
    share, *rest = at
    if isinstance(value, list):
        i = int(share * len(value)) % len(value)
        return [*value[:i], _placed(value[i], rest, new), *value[i + 1 :]]
    name = list(value)[int(share * len(value)) % len(value)]
    return {**value, name: _placed(value[name], rest, new)}


@st.composite
def files(draw: st.DrawFn, target: Target) -> bytes:
    """Files of a target: whole ones with edits; of JSON also with other values in their places."""
    content = draw(st.sampled_from(target.seeds))
    if content[:2] in (b'{"', b"[{") and draw(st.booleans()):
        place, value = draw(st.lists(st.floats(0, 0.999), max_size=5)), draw(VALUES)
        documents = [json.loads(line) for line in content.decode().splitlines()]
        changed = _placed(documents, place, value)
        whole = changed if isinstance(changed, list) else [changed]
        content = "".join(json.dumps(document) + "\n" for document in whole).encode()
    return edited(content, draw(EDITS))


def fuzz(target: Target, examples: int, seed: int | None = None) -> Counter[str]:
    """Give a reader so many files; how many it read and refused. Raises whatever else it raises.

    Without a seed they are the same in every run.
    """
    ends: Counter[str] = Counter()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    @settings(
        max_examples=examples, derandomize=seed is None, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(files(target))
    def one(content: bytes) -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        path = folder / target.file
        path.write_bytes(content)
        with warnings.catch_warnings(), ends_within(ENDLESS):
            warnings.simplefilter("ignore")
            try:
                target.read(path)
            except KarmaError as error:
                ends["refused" if str(error).strip() else "says nothing"] += 1
            else:
                ends["read"] += 1

    try:
        (one if seed is None else hypothesis.seed(seed)(one))()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ends


def main() -> None:
    """Fuzz for so many seconds; exit status 1 where anything unexpected was raised."""
    ends: dict[str, Counter[str]] = {target.name: Counter() for target in TARGETS}
    faults: dict[str, str] = {}
    seed, until = int(time.time()), time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        for target in TARGETS:
            if target.name in faults or time.monotonic() > until:
                continue
            seed += 1
            try:
                ends[target.name] += fuzz(target, 100, seed)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                faults[target.name] = f"{type(error).__name__}: {str(error)[:300]} (seed {seed})"
                sys.stdout.write(f"FAULT {target.name}: {faults[target.name]}\n")
                sys.stdout.flush()
    for name, counts in ends.items():
        sys.stdout.write(f"{name:28} {counts['read']:8,} read {counts['refused']:8,} refused\n")
    total = sum(sum(counts.values()) for counts in ends.values())
    sys.stdout.write(f"{total:,} files for {len(TARGETS)} readers: {len(faults)} unexpected exceptions\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
