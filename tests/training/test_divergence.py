"""How far a model has moved from another, and what that decides in training."""

from __future__ import annotations

import pytest

from karma_plugins.models import Weights
from karma_plugins.training.divergence import divergence
from tests.tiny import write_model
from tests.training.preferences import pairs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Weights]:
    place = tmp_path_factory.mktemp("divergence")
    return tuple(Weights(folder=str(write_model(place / str(seed), seed=seed))) for seed in (0, 1))


def test_a_model_has_not_moved_from_itself(folders):
    assert divergence(folders[0], folders[0], pairs(4), seed=0) == 0.0


def test_divergence_is_that_of_the_next_token_along_the_policys_own_answer(folders):
    """Against a plain loop over the tokens of one answer that is drawn again from the same noise."""
    import torch

    from karma_plugins.models.loading import load_model, load_tokenizer
    from karma_plugins.training import rollout

    policy, reference = folders
    table = pairs(1)
    found = divergence(policy, reference, table, seed=3)
    assert found == divergence(policy, reference, table, seed=3) > 0
    tokenizer, model, other = load_tokenizer(policy), load_model(policy), load_model(reference)
    text = tokenizer.apply_chat_template(
        table["prompt"][0].to_list(), tokenize=False, add_generation_prompt=True
    )
    said = tokenizer(text, add_special_tokens=False)["input_ids"]
    draws = rollout.noise([(3, 0)], 64)[0]
    each = []
    for number in draws:
        with torch.no_grad():
            mine, theirs = (m(torch.tensor([said])).logits[0, -1].log_softmax(-1) for m in (model, other))
        each.append(float((mine.exp() * (mine - theirs)).sum()))
        token = int(torch.searchsorted(mine.exp().cumsum(0), torch.tensor(float(number)), right=True))
        said = [*said, token]
        if token == tokenizer.eos_token_id:
            break
    assert found == pytest.approx(sum(each) / len(each), rel=1e-3)
