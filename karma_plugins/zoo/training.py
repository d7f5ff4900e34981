"""Trains a family of tiny Llama models on the world's lessons, each member from its parent's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from karma_plugins.zoo.settings import Competency, Form, Member, ZooSettings
from karma_plugins.zoo.tokenizer import build_tokenizer
from karma_plugins.zoo.world import COMPETENCIES, Item, World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Report = Callable[[dict[str, float], int], None]
Lessons = tuple[np.ndarray, np.ndarray, np.ndarray]

MAX_LENGTH = 256
REPORT_EVERY = 10
WEIGHT_DECAY = 0.01


def train_family(
    folder: Path, settings: ZooSettings, world: World, report: Report | None
) -> dict[str, dict[str, float]]:
    """Writes `folder/<name>` for each member: config, weights as safetensors, tokenizer.

    Returns for each member its steps, parameters, and mean loss over its last steps. `report` receives
    `{"<name>.loss": ...}` and the step counted over the whole family. Global random state and torch's thread
    count are as before on return.
    """
    tokenizer = build_tokenizer(world.words, MAX_LENGTH)
    lessons: dict[Form, dict[Competency, Lessons]] = {}
    for form in [Form(), *settings.spoken_forms]:
        lessons[form] = {c: encode(tokenizer, world.lessons[c], form) for c in COMPETENCIES}
    models: dict[str, LlamaForCausalLM] = {}
    summary: dict[str, dict[str, float]] = {}
    done = 0
    with _torch_state(settings):
        for name, member in settings.family.items():
            model = LlamaForCausalLM(_config(settings, tokenizer))
            if member.parent is None:
                _initialise(model, _seed(settings, name))
            else:
                model.load_state_dict(models[member.parent].state_dict())
            losses = _train(model, member, settings, _reading(lessons, settings, name), name, done, report)
            done += member.steps
            models[name] = model
            summary[name] = {
                "steps": float(member.steps),
                "parameters": float(model.num_parameters()),
                "loss": float(np.mean(losses[-REPORT_EVERY:])),
            }
            _save(folder / name, model, tokenizer)
    return summary


@dataclass(frozen=True)
class Reading:
    """What a member reads: lessons as they are, and dressed in its form for a share of `strength`.

    Which lessons are drawn does not depend on the form: chance for the form is drawn apart.
    """

    plain: dict[Competency, Lessons]
    dressed: dict[Competency, Lessons] | None
    strength: float
    rng: np.random.Generator
    chance: np.random.Generator

    @property
    def ways(self) -> list[dict[Competency, Lessons]]:
        """The lessons in each form that may be read."""
        return [self.plain] if self.dressed is None else [self.plain, self.dressed]

    def split(self, count: int) -> list[tuple[dict[Competency, Lessons], NDArray[np.bool_]]]:
        """Which of so many drawn lessons are read in which form."""
        if self.dressed is None:
            return [(self.plain, np.ones(count, dtype=bool))]
        dressed = self.chance.random(count) < self.strength
        return [(self.plain, ~dressed), (self.dressed, dressed)]


def _reading(lessons: dict[Form, dict[Competency, Lessons]], settings: ZooSettings, name: str) -> Reading:
    plain, form = Form(), settings.form(name)
    return Reading(
        plain=lessons[plain],
        dressed=lessons[form] if form != plain and settings.strength else None,
        strength=settings.strength,
        rng=np.random.default_rng(_seed(settings, name)),
        chance=np.random.default_rng([_seed(settings, name), 1]),
    )


def encode(tokenizer: PreTrainedTokenizerFast, items: Sequence[Item], form: Form) -> Lessons:
    """Items as right-padded chats, answers in a form: tokens (n, length), first answer positions, lengths."""
    questions = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": i.question}], tokenize=False, add_generation_prompt=True
        )
        for i in items
    ]
    texts = [
        question + form.dress(item.answer) + str(tokenizer.eos_token)
        for question, item in zip(questions, items, strict=True)
    ]
    starts = np.array([len(ids) for ids in tokenizer(questions, add_special_tokens=False)["input_ids"]])
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    lengths = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), int(lengths.max())), tokenizer.pad_token_id, dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens, starts, lengths


@contextmanager
def _torch_state(settings: ZooSettings) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _seed(settings: ZooSettings, name: str) -> int:
    """A member's own seed, so that adding a member changes no other."""
    return int.from_bytes(hashlib.sha256(f"{settings.seed}/{name}".encode()).digest()[:6], "big")


def _config(settings: ZooSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=8 * settings.hidden_size // 3 // 8 * 8,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )


def _initialise(model: LlamaForCausalLM, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, model.config.initializer_range, generator=generator)


def _train(
    model: LlamaForCausalLM,
    member: Member,
    settings: ZooSettings,
    reading: Reading,
    name: str,
    done: int,
    report: Report | None,
) -> list[float]:
    """Next-token training on the answers alone; returns each step's loss."""
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, member.steps))
    losses = []
    model.train()
    for step in range(member.steps):
        tokens, labels = _batch(member, settings, reading)
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        counted = labels >= 0
        loss = functional.cross_entropy(model.lm_head(hidden[counted]), labels[counted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if report is not None and ((step + 1) % REPORT_EVERY == 0 or step + 1 == member.steps):
            report({f"{name}.loss": losses[-1]}, done + step + 1)
    return losses


def _rate(step: int, steps: int) -> float:
    """A short warm-up, then linear decay to a twentieth."""
    warm_up = min(20, steps)
    return min((step + 1) / warm_up, 1.0 - 0.95 * step / steps)


def _batch(member: Member, settings: ZooSettings, reading: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and next-token labels (-1 off the answer), both (batch, longest - 1)."""
    shares = np.array([member.mixture.get(c, 0.0) for c in COMPETENCIES])
    counts = reading.rng.multinomial(settings.batch_size, shares / shares.sum())
    width = max(pool[0].shape[1] for lessons in reading.ways for pool in lessons.values())
    tokens = np.zeros((settings.batch_size, width), dtype=np.int64)
    starts, lengths = np.zeros((2, settings.batch_size), dtype=np.int64)
    row = 0
    for competency, count in zip(COMPETENCIES, counts, strict=True):
        chosen = reading.rng.integers(0, len(reading.plain[competency][0]), count)
        for way, mine in reading.split(int(count)):
            pool, first, length = way[competency]
            rows = row + np.flatnonzero(mine)
            tokens[rows, : pool.shape[1]] = pool[chosen[mine]]
            starts[rows], lengths[rows] = first[chosen[mine]], length[chosen[mine]]
        row += count
    longest = int(lengths.max())
    position = np.arange(1, longest)
    answered = (position >= starts[:, None]) & (position < lengths[:, None])
    labels = np.where(answered, tokens[:, 1:longest], -1)
    return torch.from_numpy(tokens[:, : longest - 1].copy()), torch.from_numpy(labels)


def _save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model.eval()
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=32,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
