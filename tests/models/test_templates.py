"""A conversation becomes text whole, or with a reason; and today is the same day tomorrow."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from karma_plugins.contracts import Answer, Model, Request, Weights
from karma_plugins.errors import ModelError
from karma_plugins.judging.judges import likelihood
from karma_plugins.models import loading, templates
from karma_plugins.models.sampling import TransformersOptions, generate
from tests.tiny import CHAT_TEMPLATE, write_model

USER = {"role": "user", "content": "Hi <there>"}
SYSTEM = {"role": "system", "content": "Be brief."}
DATED = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
EACH = "{% for m in messages %}"
END = "{% endfor %}"
PARTS = EACH + "[{{ m.role }}]{% for part in m.content %}{{ part.text }}{% endfor %}" + END


def write(folder: Path, template: str) -> Weights:
    return Weights(folder=str(write_model(folder / "model", chat_template=template)))


def rendered(folder: Path, template: str, *messages: dict[str, str], answered: bool = False) -> str:
    """The text, or the reason with a dash before it."""
    weights = write(folder, template)
    text = templates.render(loading.load_tokenizer(weights), weights, messages, answered=answered)
    return f"- {text.reason}" if isinstance(text, templates.Refusal) else text


LEFT_OUT = "- the chat template leaves out the {} message"
BEHAVIOURS: dict[str, tuple[str, list[dict[str, str]], str]] = {
    "plain": (EACH + "{{ m.content }}|" + END, [SYSTEM, USER], "Be brief.|Hi <there>|"),
    "content as parts": (PARTS, [SYSTEM, USER], "[system]Be brief.[user]Hi <there>"),
    "trims": (EACH + "{{ m.content | trim }}" + END, [{"role": "user", "content": " a\n"}], "a"),
    "escapes": (EACH + "{{ m.content | tojson }}" + END, [{"role": "user", "content": 'a"b'}], '"a\\"b"'),
    "refuses a system prompt": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not\nsupported') }}{% endif %}",
        [SYSTEM, USER],
        "- the chat template refuses this conversation: System role not supported",
    ),
    "drops a system prompt": (
        EACH + "{% if m.role != 'system' %}{{ m.content }}{% endif %}" + END,
        [SYSTEM, USER],
        LEFT_OUT.format("system"),
    ),
    "drops the question": ("{{ messages[0].content }}", [SYSTEM, USER], LEFT_OUT.format("user")),
    "says the same of everything": ("Hello", [USER], LEFT_OUT.format("user")),
    "renders nothing": ("", [USER], "- its"),
    "renders nothing for these": (
        EACH + "{% if m.role == 'human' %}{{ m.content }}{% endif %}" + END,
        [USER],
        "- the chat template renders nothing",
    ),
    "adds text to a number": (
        EACH + "{{ m.content + 1 }}" + END,
        [USER],
        "- the chat template fails on this conversation: TypeError: can only concatenate str "
        '(not "int") to str',
    ),
    "asks for what is not there": (
        EACH + "{{ m.content.text.upper() }}" + END,
        [USER],
        "- the chat template refuses this conversation: 'str object' has no attribute 'text'",
    ),
    "divides by nothing": (
        "{{ 1 // 0 }}",
        [USER],
        "- the chat template fails on this conversation: ZeroDivisionError: integer division or modulo by "
        "zero",
    ),
    "strips old thinking": (
        EACH + "{{ m.content.split('</think>')[-1] }};" + END,
        [USER, {"role": "assistant", "content": "<think>hm</think>yes"}, {"role": "user", "content": "Why?"}],
        "Hi <there>;yes;Why?;",
    ),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_a_template_makes_of_a_conversation(behaviour: str, tmp_path: Path) -> None:
    template, messages, expected = BEHAVIOURS[behaviour]
    if behaviour == "renders nothing":
        weights = write(tmp_path, template)
        with pytest.raises(ModelError, match="has no chat template"):
            templates.check_chat_template(loading.load_tokenizer(weights), weights)
        return
    assert rendered(tmp_path, template, *messages) == expected


def test_an_answer_that_is_left_out_whole_is_refused(tmp_path: Path) -> None:
    stripping = EACH + "{{ m.content.split('</think>')[-1].split('<think>')[0] }};" + END
    lost = {"role": "assistant", "content": "<think>I never come to an end"}
    assert rendered(tmp_path / "a", stripping, USER, lost, answered=True) == LEFT_OUT.format("assistant")
    kept = {"role": "assistant", "content": "<think>hm</think>yes"}
    assert rendered(tmp_path / "b", stripping, USER, kept, answered=True) == "Hi <there>;yes;"


def test_a_broken_template_stops(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chat template is broken, line 1"):
        rendered(tmp_path, "{% for x %}", USER)


# --- the date -----------------------------------------------------------------------------------------------


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock as transformers reads it, a long way on."""
    from transformers.utils import chat_template_utils

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2077, 1, 2, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)


def test_templates_are_told_the_descriptors_date_and_not_todays(tmp_path: Path, tomorrow: None) -> None:
    assert rendered(tmp_path, DATED, USER).startswith("26 Jul 2024<|user|>")
    weights = Weights(folder=str(tmp_path / "model"), date=datetime.date(2025, 3, 4))
    tokenizer = loading.load_tokenizer(weights)
    assert str(templates.render(tokenizer, weights, [USER])).startswith("04 Mar 2025")
    # As TRL and lm-eval apply it.
    assert tokenizer.apply_chat_template([USER], tokenize=False).startswith("04 Mar 2025")


@pytest.mark.parametrize(
    "call",
    [
        "strftime_now('%A %d.%m.%y, %H:%M:%S %p, day %j, %B or %b, week %V')",
        "strftime_now('%Y-%m-%d').split('-')[1]",
        "strftime_now('100%% %Y %%d %%')",
        "strftime_now('%-d/%-m')",
        "(strftime_now('%Y') | int) + 1",
        "'yes' if strftime_now is defined else 'no'",
        "strftime_now(format='%d %b %Y')",
    ],
)
def test_every_way_of_asking_for_the_date(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers itself answers on that day."""
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    day = datetime.date(2024, 7, 6)

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.combine(day, datetime.time())

    folder = write(tmp_path, "{% set now %}{{ " + call + " }}{% endset %}{{ now }}" + CHAT_TEMPLATE).folder
    own = loading.load_tokenizer(Weights(folder=folder, date=day))
    with monkeypatch.context() as patched:
        patched.setattr(chat_template_utils, "datetime", Then)
        expected = AutoTokenizer.from_pretrained(folder).apply_chat_template([USER], tokenize=False)
    assert own.apply_chat_template([USER], tokenize=False) == expected


def test_a_saved_tokenizer_keeps_its_template_as_it_was(tmp_path: Path) -> None:
    import pickle

    from transformers import AutoTokenizer

    tokenizer = loading.load_tokenizer(write(tmp_path, DATED))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == DATED
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.apply_chat_template([USER], tokenize=False).startswith("26 Jul 2024")


def test_answers_and_scores_are_those_of_the_date_that_is_written_down(tmp_path: Path) -> None:
    weights = write(tmp_path, DATED)
    fixed = DATED.replace("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024")
    same = Weights(folder=str(write_model(tmp_path / "fixed", chat_template=fixed)))
    requests = [Request("p", [USER], 0, 3)]
    options = TransformersOptions(max_new_tokens=12)
    dated, other, expected = (
        generate(Model("m", tmp_path, source), requests, options)
        for source in (weights, weights.model_copy(update={"date": datetime.date(2025, 1, 1)}), same)
    )
    assert dated == expected
    assert other != expected
    answer = Answer("r", "p", "m", [USER], "yes")
    judged = [
        likelihood.score([answer], likelihood.LikelihoodOptions(model=str(source.folder)))
        for source in (weights, same)
    ]
    assert judged[0] == judged[1]


def test_the_date_of_a_descriptor_is_read_and_checked(tmp_path: Path) -> None:
    from karma_plugins import models

    folder = write(tmp_path, DATED).folder
    descriptor = tmp_path / "m.yaml"
    descriptor.write_text(f"folder: {folder}\ndate: 2025-01-01\n")
    source = models.load("m", descriptor).source
    assert isinstance(source, Weights)
    assert source.date == datetime.date(2025, 1, 1)
    before = models.fingerprint(descriptor)
    descriptor.write_text(f"folder: {folder}\ndate: 2025-01-02\n")
    assert models.fingerprint(descriptor) != before
    descriptor.write_text(f"folder: {folder}\ndate: soon\n")
    with pytest.raises(Exception, match="date"):
        models.load("m", descriptor)
