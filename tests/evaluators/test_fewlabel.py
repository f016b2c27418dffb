import pytest
import torch

from tests.evaluators.fakes import blobs
from unlabeled.evaluators.evaluator import draw, ranks_in_class
from unlabeled.evaluators.fewlabel import FewLabels
from unlabeled.evaluators.linear import best_strength
from unlabeled.evaluators.logistic import Scaler, fit
from unlabeled.features import Features


def test_draws_are_stratified_seeded_and_different():
    label = torch.tensor([0] * 300 + [1] * 500 + [2] * 20)[torch.randperm(820)]
    places = FewLabels(share=0.05, draws=4).draw(label)
    assert places.shape == (4, 15 + 25 + 2)  # of class 2 at least two
    for row in places:
        assert label[row].bincount().tolist() == [15, 25, 2]
        assert len(row.unique()) == len(row)
    assert torch.equal(places, FewLabels(share=0.05, draws=4).draw(label))
    assert not torch.equal(places[0], places[1])
    assert not torch.equal(places, FewLabels(share=0.05, draws=4, seed=1).draw(label))


def test_a_draw_and_its_rest_are_all_and_rounding_is_by_class():
    label = torch.arange(103) % 5
    chosen, rest = draw(label, share=0.2, least=1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([chosen, rest]).sort().values, torch.arange(103))
    assert label[chosen].bincount().tolist() == [4, 4, 4, 4, 4]


def test_ranks_count_each_class_from_zero():
    label = torch.tensor([0, 1, 0, 1, 1, 0])
    ranks = ranks_in_class(label, 2, torch.Generator().manual_seed(0))
    assert ranks[label == 0].sort().values.tolist() == [0, 1, 2]
    assert ranks[label == 1].sort().values.tolist() == [0, 1, 2]


def test_the_batched_result_equals_a_loop_over_draws_folds_and_strengths():
    train, test = blobs(400, apart=0.25), blobs(150, apart=0.25, seed=1)
    judge = FewLabels(share=0.1, draws=2, strengths=(1e-2, 1e-1, 1.0))
    found = judge.score(train, test)[0]
    scale = Scaler.fit(train.x)
    for number, places in enumerate(judge.draw(train.label)):
        x, label = scale(train.x[places]), train.label[places]
        folds = 5
        fold = judge._folds(train.label[judge.draw(train.label)], 4)[1][number]
        assert fold.bincount().tolist() == [8] * 5
        scores = torch.zeros(3)
        for held in range(folds):
            fitted = fold != held
            swept = fit(
                x[None, fitted], label[None, fitted], classes=4,
                strength=torch.tensor([judge.strengths]),
            )  # fmt: skip
            likely = swept.log_likelihood(x[None, ~fitted], label[None, ~fitted])
            scores += likely[0].sum(0) / len(label)
        best = int(best_strength(scores))
        assert found.details["strength"][number] == judge.strengths[best]
        final = fit(x[None], label[None], classes=4,
                    strength=torch.tensor([[judge.strengths[best]]]))  # fmt: skip
        right = final.predict(scale(test.x)[None])[0, :, 0] == test.label
        assert found.trials[number] == pytest.approx(100 * right.double().mean().item(), abs=0.7)
    # on the labels that it was fitted to, the weakest would always win
    assert min(found.details["strength"]) > 1e-2


def test_value_spread_and_counts():
    train, test = blobs(400, apart=0.5), blobs(100, apart=0.5, seed=1)
    found = FewLabels(share=0.05, draws=3).score(train, test)[0]
    assert len(found.trials) == 3
    assert found.value == pytest.approx(sum(found.trials) / 3)
    assert found.spread == pytest.approx(torch.tensor(found.trials).std().item())
    assert (found.train, found.test, found.details["folds"]) == (20, 100, 5)


def test_the_test_split_never_decides():
    train, test = blobs(400, apart=0.5), blobs(100, apart=0.5, seed=1)
    mixed = Features(test.x, test.label[torch.randperm(100)])
    judge = FewLabels(share=0.05, draws=2)
    assert judge.score(train, test)[0].details == judge.score(train, mixed)[0].details


def test_which_label_the_other_samples_have_does_not_count():
    train, test = blobs(400, apart=0.5), blobs(100, apart=0.5, seed=1)
    judge = FewLabels(share=0.05, draws=1)
    rest = torch.ones(400, dtype=torch.bool)
    rest[judge.draw(train.label)[0]] = False
    x = train.x.clone()
    x[rest] = x[rest][torch.randperm(380)]
    mixed = judge.score(Features(x, train.label), test)[0]
    assert mixed.value == pytest.approx(judge.score(train, test)[0].value, abs=1.01)


def test_errors():
    with pytest.raises(ValueError, match="share is 0"):
        FewLabels(share=0)
    with pytest.raises(ValueError, match="draws is 0"):
        FewLabels(draws=0)
    lonely = blobs(40)
    lonely.label[0] = 7
    with pytest.raises(ValueError, match="too few training samples in class 7"):
        FewLabels().score(lonely, blobs(10))
