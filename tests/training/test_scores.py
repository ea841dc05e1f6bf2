"""Scores against scikit-learn and SciPy, lane by lane; undefined ones are zero and never NaN."""

import pytest
import torch
from scipy.stats import pearsonr
from sklearn import metrics

from pace_tune.errors import UnknownNameError
from pace_tune.training.scoring import SCORES, score

LANES, SAMPLES = 3, 40


def case(classes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(LANES, SAMPLES, classes, generator=rng), torch.randint(classes, (SAMPLES,), generator=rng)


REFERENCES = {
    "accuracy": (4, metrics.accuracy_score),
    "matthews": (2, metrics.matthews_corrcoef),
    "f1": (2, metrics.f1_score),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("seed", range(3))
def test_each_lane_agrees_with_scikit_learn(name, seed):
    classes, reference = REFERENCES[name]
    logits, targets = case(classes, seed)
    expected = [reference(targets, lane.argmax(dim=-1)) for lane in logits]
    torch.testing.assert_close(score(name, logits, targets), torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(score(name, logits, targets.expand(LANES, -1)), score(name, logits, targets))


def test_matthews_of_several_classes():
    logits, targets = case(5)
    expected = [metrics.matthews_corrcoef(targets, lane.argmax(dim=-1)) for lane in logits]
    torch.testing.assert_close(score("matthews", logits, targets), torch.tensor(expected, dtype=torch.float32))


def test_pearson_agrees_with_scipy():
    logits, _ = case(1)
    targets = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(1))
    expected = [pearsonr(targets, lane[:, 0]).statistic for lane in logits]
    torch.testing.assert_close(score("pearson", logits, targets), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("name", ["matthews", "f1", "pearson"])
def test_what_is_undefined_is_zero(name):
    logits = torch.tensor([[[1.0, 0.0]] * 4])
    targets = torch.zeros(4, dtype=torch.float32 if name == "pearson" else torch.int64)
    assert score(name, logits[..., :1] if name == "pearson" else logits, targets).tolist() == [0.0]


def test_token_accuracy_counts_answer_tokens_and_each_sample_alike():
    targets = torch.tensor([[-100, 1, 2, -100], [-100, -100, -100, 3]])
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0, 0, 1] = 1  # right
    logits[0, 0, 1, 3] = 1  # wrong
    logits[0, 1, 2, 3] = 1  # right
    assert score("token_accuracy", logits, targets).tolist() == [0.75]


def test_unknown_scores_get_near_names():
    with pytest.raises(UnknownNameError, match="accuracy"):
        score("acuracy", *case(2))
    assert "matthews" in SCORES
