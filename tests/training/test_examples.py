"""Pairs become tokens, or are dropped with a count: chat templates of many habits, and cuts."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

from karma_plugins.errors import EmptyResultError, ModelError
from karma_plugins.models import Weights, templates
from karma_plugins.params import TrainSection
from karma_plugins.training import examples
from tests.tiny import build_tokenizer, write_model
from tests.training.preferences import pairs

SETTINGS = TrainSection(base="base")
TURN = "<|{{ m.role }}|>{{ m.content }}<|end|>"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
EACH = "{% for m in messages %}"

#: What a template does -> the template, and what comes of the four pairs: why they are dropped, or null.
TEMPLATES: dict[str, tuple[str, str | None]] = {
    "plain": (EACH + TURN + "{% endfor %}" + OPEN, None),
    "no system": (
        EACH + "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + TURN + "{% endfor %}" + OPEN,
        None,
    ),
    "alternation enforced": (
        EACH + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}"
        "{% endif %}" + TURN + "{% endfor %}" + OPEN,
        None,
    ),
    "thinking stripped": (
        EACH + "<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}" + OPEN,
        None,
    ),
    "thinking opened": (
        EACH + TURN + "{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
        None,
    ),
    "date": (
        "<|system|>Today is {{ strftime_now('%d %b %Y') }}<|end|>" + EACH + TURN + "{% endfor %}" + OPEN, None
    ),
    "tools": (
        "{% if tools %}<|system|>{{ tools | tojson }}{% endif %}" + EACH + TURN + "{% endfor %}" + OPEN, None
    ),
    "begins with a token of its own": ("<|pad|>" + EACH + TURN + "{% endfor %}" + OPEN, None),
    "no generation prompt": (EACH + TURN + "{% endfor %}", None),
    "content as parts": (
        EACH + "<|{{ m.role }}|>{% for part in m.content %}{{ part.text }}{% endfor %}<|end|>{% endfor %}"
        + OPEN,
        None,
    ),
    "prefix changed by the next turn": (
        EACH + "<|{{ m.role }}|>{% if loop.last %}(now) {% endif %}{{ m.content }}<|end|>{% endfor %}" + OPEN,
        None,
    ),
    "renders nothing": ("{# nothing #}", "renders nothing"),
    "renders no answer": (
        EACH + "{% if m.role == 'user' %}" + TURN + "{% endif %}{% endfor %}",
        "leaves out the assistant message",
    ),
    "trims": (EACH + "<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}" + OPEN, None),
    "cuts": (EACH + "<|{{ m.role }}|>{{ m.content[:6] }}<|end|>{% endfor %}" + OPEN, None),
    "writes roles in another script": (
        "{% set names = {'user': '用户', 'assistant': '助手'} %}"
        + EACH + "{{ names[m.role] }}：{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}助手：{% endif %}",
        None,
    ),
}  # fmt: skip


def table(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """Pairs of these prompts, chosen and rejected texts."""
    made = pairs(len(rows)).to_dicts()
    for row, (prompt, chosen, rejected) in zip(made, rows, strict=True):
        row["prompt"][0]["content"] = prompt
        row["chosen"][0]["content"], row["rejected"][0]["content"] = chosen, rejected
    return pl.DataFrame(made, schema=pairs(1).schema)


PAIRS = table(
    ("What is it?", "<think>hm</think>Yes, it is", "<think>no idea</think>No, not at all"),
    ("And now?", "<think>one</think>Same", "<think>two</think>Same"),
    ("Say it.", "  Spaced out ", "Spaced in"),
    ("Wie geht's?", "Größe 漢字 🎈", "Grösse"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("examples") / "base")


def weights(base: Path, folder: Path, template: str, **options) -> Weights:
    path = folder / "template.jinja"
    path.write_text(template, encoding="utf-8")
    return Weights(folder=str(base), chat_template=str(path), **options)


def encoded(prepared: examples.Prepared, start: Weights) -> list[examples.Example]:
    outcomes = examples._outcomes(prepared.pairs, examples.tokenizer_of(start), start, 256)
    return [outcome for outcome in outcomes if isinstance(outcome, examples.Example)]


@pytest.mark.parametrize("habit", TEMPLATES)
def test_a_template_trains_right_or_is_dropped_with_a_count(base, tmp_path, habit):
    """What is trained follows the very prompt that `generate` asks with, holds the whole answer, and ends."""
    template, reason = TEMPLATES[habit]
    start = weights(base, tmp_path, template)
    if reason is not None:
        with pytest.raises(EmptyResultError, match=f"4 of 4 pairs are not trained on.*{reason}"):
            examples.prepare(PAIRS, start, SETTINGS)
        return
    prepared = examples.prepare(PAIRS, start, SETTINGS)
    assert prepared.pairs.height + sum(prepared.dropped.values()) == 4
    assert not prepared.dropped
    tokenizer = examples.tokenizer_of(start)
    for row, example in zip(prepared.pairs.to_dicts(), encoded(prepared, start), strict=True):
        asked = templates.render(tokenizer, start, row["prompt"])
        assert tokenizer.decode(example.prompt) == asked
        for name in ("chosen", "rejected"):
            said = tokenizer.decode(getattr(example, name))
            assert row[name][0]["content"].strip() in said
            assert said.endswith("<|end|>")
        assert example.chosen != example.rejected


def test_thinking_that_the_template_strips_is_trained_as_it_was_generated(base, tmp_path):
    start = weights(base, tmp_path, TEMPLATES["thinking stripped"][0])
    first = encoded(examples.prepare(PAIRS, start, SETTINGS), start)[1]
    decode = examples.tokenizer_of(start).decode
    assert decode(first.chosen) == "<think>one</think>Same<|end|>"
    assert decode(first.rejected) == "<think>two</think>Same<|end|>"


def test_what_a_template_refuses_is_dropped_with_its_words(base, tmp_path):
    """As `generate` has it: a system role that the template does not know, two turns of one side."""
    refusing = weights(base, tmp_path, TEMPLATES["no system"][0], system_prompt="Be brief.")
    with pytest.raises(EmptyResultError, match="System role not supported"):
        examples.prepare(PAIRS, refusing, SETTINGS)
    twice = PAIRS.to_dicts()
    twice[0]["prompt"] = twice[0]["prompt"] * 2
    start = weights(base, tmp_path, TEMPLATES["alternation enforced"][0])
    prepared = examples.prepare(pl.DataFrame(twice, schema=PAIRS.schema), start, SETTINGS)
    assert prepared.dropped == {examples.REFUSED: 1}
    assert prepared.pairs["order"].to_list() == [1, 2, 3]
    assert "1 of 4 pairs are not trained on" in prepared.complaint()
    assert "alternate)" in prepared.complaint()


def test_answers_that_differ_in_nothing_trained_are_dropped(base, tmp_path):
    start = weights(base, tmp_path, TEMPLATES["trims"][0])
    same = table(("Hi", "yes", " yes "), ("Ho", "yes", "no"))
    assert examples.prepare(same, start, SETTINGS).dropped == {examples.SAME: 1}


def test_a_first_token_of_the_templates_own_comes_once(base, tmp_path):
    """Also where the tokenizer would add it by itself."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer(TEMPLATES["begins with a token of its own"][0])
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", 0)]
    )
    folder = write_model(tmp_path / "bos")
    tokenizer.save_pretrained(folder)
    start = Weights(folder=str(folder))
    for example in encoded(examples.prepare(PAIRS, start, SETTINGS), start):
        assert (example.prompt + example.chosen + example.rejected).count(0) == 1
        assert example.prompt[0] == 0


def test_a_broken_template_and_nothing_to_pad_with_are_one_line(base, tmp_path):
    with pytest.raises(ModelError, match="chat template is broken, line 1"):
        examples.prepare(PAIRS, weights(base, tmp_path, "{% for %}"), SETTINGS)
    tokenizer = build_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    folder = write_model(tmp_path / "unpadded")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="no token to pad with"):
        examples.prepare(PAIRS, Weights(folder=str(folder)), SETTINGS)


def texts(draw: random.Random) -> tuple[str, str, str]:
    """A prompt and two answers of few letters, so that many are alike, empty or blank."""
    prompt, chosen, rejected = ("".join(draw.choices("ab é漢", k=draw.randrange(13))) for _ in range(3))
    return prompt, chosen, rejected


@pytest.mark.parametrize("seed", range(40))
def test_kept_and_dropped_are_all_that_was_given(base, tmp_path, seed):
    """Whatever the pairs and the length; what is kept encodes without a loss, unlike, within the length."""
    draw = random.Random(seed)
    habit = draw.choice(["plain", "trims", "cuts", "thinking stripped", "renders nothing"])
    rows, length = [texts(draw) for _ in range(draw.randint(1, 16))], draw.randint(8, 60)
    start = weights(base, tmp_path, TEMPLATES[habit][0])
    given_pairs, limits = table(*rows), SETTINGS.model_copy(update={"max_length": length})
    dropped = [o for o in examples._outcomes(given_pairs, examples.tokenizer_of(start), start, length)
               if isinstance(o, examples.Dropped)]  # fmt: skip
    if len(dropped) == len(rows):
        with pytest.raises(EmptyResultError, match=f"{len(rows)} of {len(rows)} pairs are not trained on"):
            examples.prepare(given_pairs, start, limits)
        return
    prepared = examples.prepare(given_pairs, start, limits)
    counts = prepared.metrics()
    by_reason = {name: n for name, n in counts.items() if name.startswith("pairs/dropped/")}
    assert counts["pairs"] + sum(by_reason.values()) == counts["pairs/given"] == len(rows)
    assert sum(by_reason.values()) == counts["pairs/dropped"]
    outcomes = list(examples._outcomes(prepared.pairs, examples.tokenizer_of(start), start, length))
    assert all(isinstance(outcome, examples.Example) for outcome in outcomes)
    assert len(outcomes) == counts["pairs"]
    for example in outcomes:
        assert example.chosen != example.rejected
        assert len(example.prompt) + max(len(example.chosen), len(example.rejected)) <= length
        assert min(len(example.prompt), len(example.chosen), len(example.rejected)) > 0
    assert sum(example.cut for example in outcomes) == counts["pairs/cut"]
