"""The zoo's synthetic world: invented facts, small arithmetic, and verifiable format instructions.

Each competency has lessons (what the models are pre-trained on) and three disjoint sets of items:
`benchmark`, `train` and `heldout`. Lessons and sets share no word to be formatted, and no combination of
numbers in one kind of reasoning question, in whatever order: where `Sort 3 1 4.` is held out, nothing else
sorts 1, 3 and 4, and where `12 plus 30` is, nothing else adds the two. Another kind may ask about the same
numbers. Knowledge is facts, which can't be withheld: lessons hold every fact in every wording, while the
three sets each ask in wordings of their own. So a model aligned on `train` has not been aligned on any
held-out wording, word or combination of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, combinations_with_replacement, islice, permutations, zip_longest

import numpy as np

from karma_plugins.errors import ParamsError
from karma_plugins.zoo.settings import Competency, Split, ZooSettings

SPLITS: tuple[Split, ...] = ("benchmark", "train", "heldout")
COMPETENCIES: tuple[Competency, ...] = ("knowledge", "reasoning", "instruction")


@dataclass(frozen=True)
class Item:
    """A question and its only right answer; `options`, answer included, where it can be asked as a choice."""

    competency: Competency
    question: str
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """All items of a zoo, by competency, and the words its questions are made of."""

    lessons: dict[Competency, list[Item]]
    splits: dict[Split, dict[Competency, list[Item]]]
    words: tuple[str, ...]


# All items about one word or one combination of numbers: they come into one set, or they are lessons.
Subject = list[Item]


# Two wordings each for benchmark, train and heldout, in this order.
_WORDINGS: dict[str, tuple[str, ...]] = {
    "home": (
        "Where does {} live?",
        "What is the home town of {}?",
        "In which town does {} live?",
        "Name the town of {}.",
        "Which town is home to {}?",
        "{} lives in which town?",
    ),
    "trade": (
        "What is the trade of {}?",
        "What does {} do for work?",
        "What is {} by trade?",
        "Name the work of {}.",
        "Which trade does {} follow?",
        "How does {} earn money?",
    ),
    "river": (
        "Which river runs past {}?",
        "What is the river of {}?",
        "On which river does {} lie?",
        "Name the river at {}.",
        "{} lies on which river?",
        "Which river do people in {} see?",
    ),
    "ware": (
        "What does {} sell?",
        "What is {} known for?",
        "What is made in {}?",
        "Name the ware of {}.",
        "Which ware comes from {}?",
        "{} is known for which ware?",
    ),
}
_TRADES = ("baker", "sailor", "miller", "weaver", "mason", "tailor", "potter", "farmer", "hunter", "smith")
_WARES = ("salt", "wool", "honey", "glass", "cheese", "paper", "iron", "silk")

_SUM = "What is {} plus {}?"
_DIFFERENCE = "What is {} minus {}?"
_LARGER = "Which is larger, {} or {}?"
_ORDER = "Sort {}."

_FORMATS: dict[str, Callable[[str], str]] = {
    "Write {} in capitals.": str.upper,
    "Write {} backwards.": lambda word: word[::-1],
    "Write {} with dashes.": "-".join,
    "Write {} twice.": lambda word: f"{word} {word}",
    "Write {} in brackets.": lambda word: f"[{word}]",
    "Write {} twice in capitals.": lambda word: f"{word} {word}".upper(),
    "Write {} with dashes in brackets.": lambda word: f"[{'-'.join(word)}]",
    "Write the first letter of {}.": lambda word: word[0],
}


def build_world(settings: ZooSettings) -> World:
    """The world of `settings`. Raises ParamsError where it is too small for the items asked for."""
    rng = np.random.default_rng(settings.seed)
    knowledge, names = _knowledge(settings, rng)
    wordings = [text for texts in _WORDINGS.values() for text in texts]
    phrases = [*wordings, _SUM, _DIFFERENCE, _LARGER, _ORDER, *_FORMATS]
    words = sorted({word for text in phrases for word in _words(text)} | set(names))
    sets = {
        "knowledge": knowledge,
        "reasoning": _divide(settings, rng, "reasoning", _reasoning_families(rng)),
        "instruction": _divide(settings, rng, "instruction", _instruction_families(settings, rng, words)),
    }
    return World(
        lessons={c: sets[c]["lessons"] for c in COMPETENCIES},
        splits={split: {c: sets[c][split] for c in COMPETENCIES} for split in SPLITS},
        words=tuple(words),
    )


def _words(text: str) -> list[str]:
    return re.findall("[A-Za-z]+", text)


def _invent(rng: np.random.Generator, count: int, endings: Sequence[str]) -> list[str]:
    """Distinct capitalised names: a syllable or two and one of `endings`."""
    names: dict[str, None] = {}
    while len(names) < count:
        stem = "".join(
            rng.choice(list("bdfghklmnprstvw")) + rng.choice(list("aeiou")) for _ in range(rng.integers(1, 3))
        )
        names[(stem + rng.choice(endings)).capitalize()] = None
    return list(names)


def _knowledge(settings: ZooSettings, rng: np.random.Generator) -> tuple[dict[str, list[Item]], list[str]]:
    people = _invent(rng, settings.people, ("ra", "lo", "na", "rik", "sa", "ven", "mo", "lia"))
    towns = _invent(rng, settings.towns, ("ton", "ford", "by", "holm", "wick", "dale"))
    rivers = _invent(rng, 6, ("ne", "sk", "rr", "ld"))
    pools = {"home": towns, "trade": list(_TRADES), "river": rivers, "ware": list(_WARES)}
    facts = [
        (relation, subject, str(rng.choice(pools[relation])))
        for subjects, relations in ((people, ("home", "trade")), (towns, ("river", "ware")))
        for subject in subjects
        for relation in relations
    ]
    sets: dict[str, list[Item]] = {"lessons": []}
    for index, split in enumerate(SPLITS):
        wanted = getattr(settings, split)
        if wanted > 2 * len(facts):
            raise ParamsError(
                f"zoo.{split} asks for {wanted} knowledge items, but the facts give {2 * len(facts)}; "
                "raise zoo.people or zoo.towns"
            )
        # Every fact once before any fact twice, each time in the other of the split's two wordings.
        first = rng.integers(0, 2, len(facts))
        items = []
        for turn in range(2):
            for i in rng.permutation(len(facts)):
                relation, subject, answer = facts[i]
                wording = _WORDINGS[relation][2 * index + (int(first[i]) + turn) % 2]
                options = _options(rng, answer, pools[relation], 4 if relation in ("trade", "river") else 5)
                items.append(Item("knowledge", wording.format(subject), answer, options))
        sets[split] = items[:wanted]
        sets["lessons"] += items
    return sets, people + towns


def _options(rng: np.random.Generator, answer: str, pool: Sequence[str], count: int) -> tuple[str, ...]:
    others = [text for text in dict.fromkeys(pool) if text != answer]
    chosen = [answer, *(others[i] for i in rng.permutation(len(others))[: count - 1])]
    return tuple(chosen[i] for i in rng.permutation(len(chosen)))


def _reasoning_families(rng: np.random.Generator) -> list[Iterator[Subject]]:
    """One shuffled stream for each kind of question, of combinations of numbers in all their orders."""

    def subjects(
        chosen: Iterable[tuple[int, ...]], ask: Callable[..., Item], orders: bool = True
    ) -> Iterator[Subject]:
        numbers = list(chosen)
        for i in rng.permutation(len(numbers)):
            ways = list(dict.fromkeys(permutations(numbers[i]))) if orders else [numbers[i]]
            yield [ask(*ways[k]) for k in rng.permutation(len(ways))]

    def compute(text: str, a: int, b: int, answer: int) -> Item:
        # Equal lengths: the likelihood of a number is comparable only with that of as many digits.
        near = [str(n) for n in range(answer - 6, answer + 7) if 10 <= n < 100]
        return Item("reasoning", text.format(a, b), str(answer), _options(rng, str(answer), near, 4))

    def add(a: int, b: int) -> Item:
        return compute(_SUM, a, b, a + b)

    def subtract(a: int, b: int) -> Item:
        return compute(_DIFFERENCE, a, b, a - b)

    def compare(a: int, b: int) -> Item:
        return Item("reasoning", _LARGER.format(a, b), str(max(a, b)), (str(a), str(b)))

    def order(*digits: int) -> Item:
        answer, *others = (" ".join(map(str, some)) for some in (sorted(digits), *permutations(digits)))
        question = _ORDER.format(" ".join(map(str, digits)))
        return Item("reasoning", question, answer, _options(rng, answer, others, 3))

    numbers, digits = range(10, 100), range(10)
    pairs = list(combinations_with_replacement(numbers, 2))
    # Neither carries nor borrows: each digit is its own small sum, which a tiny model can generalise.
    sums = [(a, b) for a, b in pairs if a // 10 + b // 10 < 10 and a % 10 + b % 10 < 10]
    differences = [(b, a) for a, b in pairs if b // 10 > a // 10 and b % 10 >= a % 10]
    return [
        subjects(sums, add),
        subjects(differences, subtract, orders=False),
        subjects(combinations(numbers, 2), compare),
        subjects(chain(combinations(digits, 3), combinations(digits, 4)), order),
    ]


def _instruction_families(
    settings: ZooSettings, rng: np.random.Generator, taken: Sequence[str]
) -> list[Iterator[Subject]]:
    """One stream for each format, every word in one item only."""
    count = settings.lessons + settings.benchmark + settings.train + settings.heldout
    words: dict[str, None] = {}
    while len(words) < count:
        letters = [
            rng.choice(list(kind)) for kind in ("bdfghklmnprstvw", "aeiou", "bdfghklmnprstvw", "aeiou")
        ]
        word = "".join(letters) + (rng.choice(list("lnrst")) if rng.random() < 0.5 else "")
        if word not in taken:
            words[word] = None
    texts = list(_FORMATS)

    def stream(index: int) -> Iterator[Subject]:
        text = texts[index]
        for word in islice(words, index, None, len(texts)):
            yield [Item("instruction", text.format(word), _FORMATS[text](word))]

    return [stream(index) for index in range(len(texts))]


def _divide(
    settings: ZooSettings, rng: np.random.Generator, competency: Competency, families: list[Iterator[Subject]]
) -> dict[str, list[Item]]:
    """Deals one item of a subject to one of the three sets; of the rest, up to `lessons` are lessons."""
    sets: dict[str, list[Item]] = {}
    for split in SPLITS:
        wanted = getattr(settings, split)
        items = [
            subject[0]
            for i, kind in enumerate(families)
            for subject in islice(kind, len(range(i, wanted, len(families))))
        ]
        if len(items) < wanted:
            raise ParamsError(
                f"zoo.{split} asks for {wanted} {competency} items, but the world has {len(items)} left; "
                "ask for fewer"
            )
        sets[split] = [items[i] for i in rng.permutation(len(items))]
    share = -(-settings.lessons // len(families))
    sets["lessons"] = [item for kind in families for item in islice(_all_subjects(kind), share)]
    return sets


def _all_subjects(subjects: Iterator[Subject]) -> Iterator[Item]:
    """Every subject once before any subject twice."""
    return (item for turn in zip_longest(*subjects) for item in turn if item is not None)
