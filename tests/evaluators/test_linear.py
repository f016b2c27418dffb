import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from tests.evaluators.fakes import blobs
from unlabeled.evaluators import logistic
from unlabeled.evaluators.linear import Linear, best_strength
from unlabeled.evaluators.logistic import Scaler, fit
from unlabeled.features import Features


def objective(x, label, weight, bias, strength):
    loss = cross_entropy(x.double() @ weight.double() + bias.double(), label)
    return (loss + strength / 2 * weight.double().square().sum()).item()


@pytest.mark.parametrize("rotate", [4096, 0])
def test_reaches_scikit_learns_optimum_for_all_strengths_at_once(monkeypatch, rotate):
    monkeypatch.setattr(logistic, "WIDEST_ROTATION", rotate)
    features = blobs(300, apart=0.5)
    x, label = Scaler.fit(features.x)(features.x), features.label
    strengths = (1e-4, 1e-2, 1.0)
    found = fit(x[None], label[None], classes=4, strength=torch.tensor([strengths]), tolerance=1e-7)
    assert found.converged.all()
    for place, strength in enumerate(strengths):
        model = LogisticRegression(C=1 / (len(x) * strength), tol=1e-9, max_iter=10_000)
        model.fit(x.double().numpy(), label)
        weight, bias = torch.from_numpy(model.coef_.T), torch.from_numpy(model.intercept_)
        best = objective(x, label, weight, bias, strength)
        own = objective(x, label, found.weight[0, place], found.bias[0, place], strength)
        assert own == pytest.approx(best, rel=1e-4)
        assert found.loss[0, place].item() == pytest.approx(own, rel=1e-5)


def test_a_weight_of_zero_leaves_a_sample_out_and_data_sets_are_apart():
    one, two = blobs(40, apart=0.5), blobs(40, apart=0.5, seed=5)
    x = torch.stack([Scaler.fit(each.x)(each.x) for each in (one, two)])
    label = torch.stack([one.label, two.label])
    kept = torch.ones(2, 1, 40)
    kept[:, :, 30:] = 0
    strength = torch.full((2, 1), 0.01)
    options = {"classes": 4, "tolerance": 1e-7}
    both = fit(x, label, strength=strength, weight=kept, **options)
    for place in range(2):
        alone = fit(x[place : place + 1, :30], label[place : place + 1, :30],
                    strength=strength[:1], **options)  # fmt: skip
        assert both.loss[place].item() == pytest.approx(alone.loss[0].item(), rel=1e-4)
        torch.testing.assert_close(both.weight[place], alone.weight[0], atol=0.02, rtol=0.05)


def test_many_problems_in_parts_equal_all_at_once(monkeypatch):
    one, two = blobs(40, apart=0.5), blobs(40, apart=0.5, seed=5)
    x = torch.stack([Scaler.fit(each.x)(each.x) for each in (one, two)])
    label = torch.stack([one.label, two.label])
    strength = torch.tensor([[0.01, 0.1, 1.0], [0.02, 0.2, 2.0]])
    whole = fit(x, label, classes=4, strength=strength, tolerance=1e-7)
    monkeypatch.setattr(logistic, "LARGEST", 90)  # 2 problems of 10 x 4
    parts = fit(x, label, classes=4, strength=strength, tolerance=1e-7)
    assert parts.weight.shape == whole.weight.shape
    torch.testing.assert_close(parts.loss, whole.loss, atol=1e-5, rtol=1e-5)


def test_predictions_in_blocks_and_likelihoods(monkeypatch):
    features = blobs(50, apart=0.5)
    x, label = Scaler.fit(features.x)(features.x)[None], features.label[None]
    found = fit(x, label, classes=4, strength=torch.tensor([[0.01, 0.1]]))
    logits = torch.einsum("nd,pdc->npc", x[0], found.weight[0]) + found.bias[0]
    monkeypatch.setattr(logistic, "BLOCK", 30)
    assert torch.equal(found.predict(x)[0], logits.argmax(2))
    likely = logits.log_softmax(2)[torch.arange(50), :, label[0]]
    torch.testing.assert_close(found.log_likelihood(x, label)[0], likely, atol=1e-5, rtol=1e-5)


def test_separable_blobs_are_separated_and_agree_with_scikit_learn():
    train, test = blobs(400, apart=3.0), blobs(200, apart=3.0, seed=1)
    found = Linear().score(train, test)[0]
    assert found.value == 100
    train, test = blobs(400, apart=0.5), blobs(400, apart=0.5, seed=1)
    found = Linear().score(train, test)[0]
    scale = Scaler.fit(train.x)
    model = LogisticRegression(C=1 / (400 * found.details["strength"]), max_iter=1000)
    other = model.fit(scale(train.x), train.label).score(scale(test.x), test.label)
    assert found.value == pytest.approx(100 * other, abs=0.76)


def test_the_test_split_never_decides():
    train, test = blobs(200, apart=0.3), blobs(100, apart=0.3, seed=1)
    order = torch.randperm(100)
    mixed = Features(test.x * 0, test.label[order])
    one, two = Linear().score(train, test)[0], Linear().score(train, mixed)[0]
    assert one.details == two.details
    assert one.value != two.value


def test_the_strength_is_the_best_on_labels_held_out_of_train():
    found = Linear(most=150, held_out=0.2).score(blobs(200, apart=0.3), blobs(50, seed=1))[0]
    scores = found.details["held_out_top1"]
    last = max(place for place, score in enumerate(scores) if score == max(scores))
    assert found.details["strength"] == found.details["strengths"][last]
    counts = found.details["sweep_train"], found.details["sweep_held_out"]
    assert counts == (120, 32)  # 38 of the 50 of each class, 8 of them set aside
    assert (found.train, found.test) == (200, 50)


def test_of_equal_scores_the_strongest():
    assert best_strength(torch.tensor([[1.0, 3.0, 3.0, 2.0], [5.0, 1.0, 1.0, 1.0]])).tolist() == [
        2,
        0,
    ]


def test_the_same_seed_gives_the_same_result():
    train, test = blobs(120, apart=0.3), blobs(60, seed=1)
    assert (
        Linear(seed=3).score(train, test)[0].details == Linear(seed=3).score(train, test)[0].details
    )


def test_constant_dimensions_do_not_matter():
    train, test = blobs(100, apart=0.5), blobs(60, apart=0.5, seed=1)
    wide = [
        Features(torch.cat([each.x, torch.full((len(each), 3), 1e4)], 1), each.label)
        for each in (train, test)
    ]
    wide[1].x[:, -1] += 100  # varies in test only
    assert Linear().score(*wide)[0].value == Linear().score(train, test)[0].value


def test_errors():
    train, test = blobs(40), blobs(20, seed=1)
    with pytest.raises(ValueError, match="all 40 training labels are 2: a score needs two classes"):
        Linear().score(Features(train.x, train.label * 0 + 2), test)
    alone = train.label.clone()
    alone[0] = 9
    with pytest.raises(ValueError, match="too few training samples in class 9"):
        Linear().score(Features(train.x, alone), test)
    with pytest.raises(ValueError, match=r"labels that train never has \(11, 12, 13, 14\)"):
        Linear().score(train, Features(test.x, test.label + 11))
    broken = train.x.clone()
    broken[7, 2] = torch.nan
    with pytest.raises(ValueError, match="train feature 7 is not finite"):
        Linear().score(Features(broken, train.label), test)
    with pytest.raises(ValueError, match="test has no labels"):
        Linear().score(train, Features(test.x))
    with pytest.raises(ValueError, match="train has width 10, test 9"):
        Linear().score(train, Features(test.x[:, 1:], test.label))
    with pytest.raises(ValueError, match="ascending order"):
        Linear(strengths=(1.0, 0.1))
    with pytest.raises(ValueError, match="held_out is 1"):
        Linear(held_out=1.0)
    with pytest.raises(ValueError, match="L2 needs a positive number"):
        fit(train.x[None], train.label[None], classes=4, strength=torch.zeros(1, 1))
