"""Losses and distances beyond classification, against loops that spell them out."""

import torch
from torch.nn import functional as F

from pace_tune.pace.criterion import CRITERIA, answers_only

TARGETS = torch.tensor([[[-100, -100, 4, 2, -100, -100], [-100, 1, 3, 0, 2, -100]], [[-100, 2, -100, -100, -100, -100], [-100] * 5 + [3]]])


def logits(seed, length=6):
    return torch.randn(2, 2, length, 5, generator=torch.Generator().manual_seed(seed))


def spelled_out(value):
    """Mean over a sample's answer tokens, then over the batch."""
    lanes = []
    for k in range(2):
        samples = []
        for b in range(2):
            scored = [t for t in range(1, 6) if TARGETS[k, b, t] != -100]
            samples.append(torch.stack([value(k, b, t) for t in scored]).mean())
        lanes.append(torch.stack(samples).mean())
    return torch.stack(lanes)


def test_language_modelling_loss_is_that_of_the_answers_next_tokens():
    x = logits(0)
    expected = spelled_out(lambda k, b, t: F.cross_entropy(x[k, b, t - 1], TARGETS[k, b, t]))
    torch.testing.assert_close(CRITERIA["token"].task_loss(x, TARGETS), expected)


def test_its_distance_sums_the_vocabulary_and_means_answer_tokens_and_batch():
    x, y = logits(0), logits(1)
    expected = spelled_out(lambda k, b, t: (x[k, b, t - 1] - y[k, b, t - 1]).square().sum())
    torch.testing.assert_close(CRITERIA["token"].distance(x, y, TARGETS), expected)


def test_prompt_and_padding_change_nothing():
    x, y = logits(0), logits(1)
    mixed = torch.where(answers_only(torch.ones_like(x), TARGETS[0]).bool() | answers_only(torch.ones_like(x), TARGETS[1]).bool(), x, y)
    for b, lane in enumerate(TARGETS):
        torch.testing.assert_close(
            CRITERIA["token"].task_loss(mixed[b : b + 1], lane[None]), CRITERIA["token"].task_loss(x[b : b + 1], lane[None])
        )


def test_logits_of_a_batch_that_was_cut_to_its_longest_text():
    x = logits(0)
    padded = F.pad(TARGETS, (0, 3), value=-100)
    torch.testing.assert_close(CRITERIA["token"].task_loss(x, padded), CRITERIA["token"].task_loss(x, TARGETS))


def test_regression_is_the_squared_error_of_the_one_output():
    said, true = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[0.0, 5.0]])
    assert CRITERIA["value"].task_loss(said, true).tolist() == [2.5]
    assert CRITERIA["value"].distance(said, said + 1, true).tolist() == [1.0]
