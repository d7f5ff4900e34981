"""PPO: advantages and clipped loss are those of a plain numpy computation; rollouts draw what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("torchrl")

from karma_plugins.training import ppo_loss, rollout
from tests.tiny import write_model

LENGTHS = [3, 7, 1, 5]
T = 7


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    answered = np.arange(T)[None] < np.array(LENGTHS)[:, None]
    shape = answered.shape
    return {
        "answered": answered,
        "rewards": rng.normal(size=shape) * answered,
        "values": rng.normal(size=shape),
        "logits": rng.normal(size=(*shape, 11)),
        "tokens": rng.integers(11, size=shape),
        "before": np.log(rng.uniform(0.02, 0.3, size=shape)),
    }


def tensors(batch):
    return {k: torch.from_numpy(v) for k, v in batch.items()}


def test_token_rewards_put_the_score_on_the_last_token(batch):
    t = tensors(batch)
    scores, divergence = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.full((4, T), 0.5)
    found = ppo_loss.token_rewards(scores, divergence, t["answered"], 0.1).numpy()
    expected = np.where(batch["answered"], -0.05, 0.0)
    for row, length in enumerate(LENGTHS):
        expected[row, length - 1] += row + 1
    assert np.allclose(found, expected)


def test_advantages_equal_plain_numpy(batch):
    gamma, decay = 0.97, 0.9
    t = tensors(batch)
    advantage, returns = ppo_loss.advantages(
        t["rewards"], t["values"], t["answered"], gamma=gamma, decay=decay
    )
    expected = np.zeros((4, T))
    for row, length in enumerate(LENGTHS):
        running = 0.0
        for at in reversed(range(length)):
            after = batch["values"][row, at + 1] if at + 1 < length else 0.0
            delta = batch["rewards"][row, at] + gamma * after - batch["values"][row, at]
            running = delta + gamma * decay * running
            expected[row, at] = running
    assert np.allclose(advantage.numpy(), expected)
    assert np.allclose(returns.numpy(), (expected + batch["values"]) * batch["answered"])


def test_standardised_over_answer_tokens_alone(batch):
    found = ppo_loss.standardised(torch.from_numpy(batch["values"]), torch.from_numpy(batch["answered"]))
    told = found.numpy()[batch["answered"]]
    assert told.mean() == pytest.approx(0, abs=1e-12)
    assert told.std() == pytest.approx(1, abs=1e-6)
    assert (found.numpy()[~batch["answered"]] == 0).all()


def test_losses_and_gradients_equal_plain_numpy(batch):
    t = tensors(batch)
    rng = np.random.default_rng(1)
    advantage, returns = rng.normal(size=(4, T)), rng.normal(size=(4, T))
    logits, values = t["logits"].requires_grad_(), t["values"].requires_grad_()
    found = ppo_loss.losses(
        logits,
        values,
        t["tokens"],
        t["before"],
        torch.from_numpy(advantage),
        torch.from_numpy(returns),
        t["answered"],
        clip=0.2,
    )
    counts = batch["answered"]
    log_p = batch["logits"] - np.log(np.exp(batch["logits"]).sum(-1, keepdims=True))
    drawn = np.take_along_axis(log_p, batch["tokens"][..., None], -1)[..., 0]
    ratio = np.exp(drawn - batch["before"])
    gain = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    assert found["policy"].item() == pytest.approx(-gain[counts].mean())
    assert found["value"].item() == pytest.approx(0.5 * ((batch["values"] - returns) ** 2)[counts].mean())
    assert found["entropy"].item() == pytest.approx(-(np.exp(log_p) * log_p).sum(-1)[counts].mean())
    outside = (ratio > 1.2) | (ratio < 0.8)
    assert found["clipped"].item() == pytest.approx(outside[counts].mean())
    (found["policy"] + found["value"]).backward()
    assert (logits.grad.numpy()[~counts] == 0).all()
    # Where the clipped gain is the smaller one, the token gives no gradient.
    blocked = counts & (((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0)))
    assert blocked.any()
    assert (logits.grad.numpy()[blocked] == 0).all()
    live = counts & ~blocked
    slope = -(advantage * ratio)[live] / counts.sum()
    one_hot = np.eye(11)[batch["tokens"][live]]
    assert np.allclose(logits.grad.numpy()[live], slope[:, None] * (one_hot - np.exp(log_p)[live]))
    expected = np.where(counts, (batch["values"] - returns) / counts.sum(), 0)
    assert np.allclose(values.grad.numpy(), expected)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from karma_plugins.models import Weights
    from karma_plugins.models.loading import load_model

    return load_model(Weights(folder=str(write_model(tmp_path_factory.mktemp("ppo") / "model"))))


def draw(model, prompts, uniform, **kwargs):
    return rollout.sample(model, prompts, uniform, **{"temperature": 1.0, "ends": [1], "pad": 0, **kwargs})


def test_a_row_is_drawn_by_its_own_noise_whatever_shares_its_batch(model):
    prompts = [[3, 20, 30], [3, 40], [3, 50, 60, 70, 80]]
    uniform = rollout.noise([(7, row) for row in range(3)], 12)
    together = draw(model, prompts, uniform)
    for row, prompt in enumerate(prompts):
        alone = draw(model, [prompt], uniform[row : row + 1])
        assert alone.sequences()[0] == together.sequences()[row]
    other = draw(model, prompts, rollout.noise([(8, row) for row in range(3)], 12))
    assert other.sequences() != together.sequences()


def test_an_answer_counts_up_to_its_end_token(model):
    found = draw(
        model, [[3, 20, 30]] * 40, rollout.noise([(row,) for row in range(40)], 30), ends=[*range(1, 90)]
    )
    for tokens, answered, ended in zip(found.tokens, found.answered, found.ended, strict=True):
        ends = [i for i, token in enumerate(tokens.tolist()) if 1 <= token < 90]
        length = ends[0] + 1 if ends else found.tokens.shape[1]
        assert answered.tolist() == [i < length for i in range(found.tokens.shape[1])]
        assert ended.item() == bool(ends)


def test_log_probabilities_of_padded_rows_are_those_of_each_row_alone(model):
    prompts = [[3, 20, 30], [3, 40], [3, 50, 60, 70, 80]]
    found = draw(model, prompts, rollout.noise([(7, row) for row in range(3)], 6))
    with torch.no_grad():
        told = rollout.log_probabilities(rollout.answer_logits(model, found, 1.0), found.tokens)
        for row, prompt in enumerate(prompts):
            whole = torch.tensor([found.sequences()[row]])
            alone = model(whole).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
            expected = alone.gather(-1, whole[0, len(prompt) :, None])[:, 0]
            assert torch.allclose(told[row][found.answered[row]], expected, atol=1e-5)


def test_tokens_are_drawn_as_often_as_their_probability_says(model):
    n = 4000
    found = draw(model, [[3, 20, 30]] * n, rollout.noise([(row,) for row in range(n)], 1), temperature=0.7)
    with torch.no_grad():
        logits = model(torch.tensor([[3, 20, 30]])).logits[0, -1] / 0.7
    expected = logits.softmax(-1)
    shares = torch.bincount(found.tokens[:, 0], minlength=len(expected)) / n
    assert (shares - expected).abs().max() < 4 * (0.25 / n) ** 0.5
