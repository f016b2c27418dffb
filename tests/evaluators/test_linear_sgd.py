import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.evaluators.fakes import FakeData, FakeEncoder, blobs
from unlabeled.data.order import permutation
from unlabeled.encoders.small import small_resnet
from unlabeled.evaluators.linear_sgd import LinearGrid, LinearSgd, train_heads
from unlabeled.evaluators.named import resolved
from unlabeled.features import Features
from unlabeled.nn.optim import Lars


def slow(x, label, *, classes, rate, steps, size, seed, batchnorm, lars):
    """One head by torch's own layers and optimizers."""
    head = nn.Linear(x.shape[1], classes).to(x)
    norm = nn.BatchNorm1d(x.shape[1], eps=1e-6, affine=False).to(x) if batchnorm else nn.Identity()
    with torch.no_grad():
        drawn = torch.randn(x.shape[1], classes, generator=torch.Generator().manual_seed(seed))
        head.weight.copy_(0.01 * drawn.T)
        head.bias.zero_()
    if lars:
        groups = [{"params": [head.weight]}, {"params": [head.bias], "adapt": False}]
        optimizer = Lars(groups, lr=rate, momentum=0.9)
    else:
        optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9)
    for step in range(steps):
        epoch, at = divmod(step, len(x) // size)
        rows = permutation(len(x), seed=seed, epoch=epoch)[at * size : (at + 1) * size]
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = cross_entropy(head(norm(x[rows])), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head, norm.eval()


@pytest.mark.parametrize(("batchnorm", "lars"), [(False, False), (True, False), (True, True)])
def test_heads_side_by_side_are_heads_trained_one_by_one(batchnorm, lars):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 7, generator=generator, dtype=torch.float64) * 3 + 1
    label = torch.randint(3, (60,), generator=generator)
    rates = (0.01, 0.3, 2.0)
    options = {"classes": 3, "steps": 40, "seed": 5, "batchnorm": batchnorm, "lars": lars}
    ours = train_heads(
        x, label, rates=torch.tensor(rates, dtype=torch.float64), batch_size=16, **options
    )
    for place, rate in enumerate(rates):
        head, norm = slow(x, label, rate=rate, size=16, **options)
        assert torch.allclose(ours.weight[place], head.weight.T, atol=1e-9)
        assert torch.allclose(ours.bias[place], head.bias, atol=1e-9)
        if batchnorm:
            assert torch.allclose(ours.mean, norm.running_mean)
            assert torch.allclose(ours.std, (norm.running_var + 1e-6).sqrt())
        assert torch.equal(ours.predict(x)[place], head(norm(x)).argmax(1))


@pytest.mark.parametrize(("batchnorm", "lars"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("count", "width", "classes", "size"), [(64, 8, 4, 16), (300, 33, 5, 64)])
def test_a_head_does_not_depend_on_the_heads_beside_it(
    count, width, classes, size, batchnorm, lars
):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    label = torch.randint(classes, (count,), generator=generator)
    rates = torch.tensor([0.01, 0.3, 2.0, 1e200], dtype=torch.float64)  # the last one diverges
    options = {"classes": classes, "steps": 20, "batch_size": size, "seed": 5}
    options |= {"batchnorm": batchnorm, "lars": lars}
    ours = train_heads(x, label, rates=rates, **options)
    for place in range(3):
        alone = train_heads(x, label, rates=rates[place : place + 1], **options)
        # not to the last bit: the product of one matrix and of four need not be the same kernel
        assert torch.allclose(ours.weight[place], alone.weight[0], rtol=1e-12, atol=1e-12)
        assert torch.allclose(ours.bias[place], alone.bias[0], rtol=1e-12, atol=1e-12)
        assert torch.equal(ours.predict(x)[place], alone.predict(x)[0])


def test_the_rate_is_chosen_where_it_is_held_out():
    train, test = blobs(200, seed=0), blobs(100, seed=1)
    probe = LinearSgd(rates=(1e-7, 0.1), least_steps=60, epochs=1)
    (found,) = probe.score(train, test)
    assert found.details["rate"] == 0.1
    assert found.value > 70
    assert found.details["held_out_top1"][1] > found.details["held_out_top1"][0]
    other = Features(torch.flip(test.x, (0,)), test.label)
    assert probe.score(train, other)[0].details == found.details  # test chooses nothing


def test_rates_follow_the_batch_size(monkeypatch):
    asked = []

    def spy(*args, rates, **options):
        asked.append(rates.tolist())
        return train_heads(*args, rates=rates, **options)

    monkeypatch.setattr("unlabeled.evaluators.linear_sgd.train_heads", spy)
    train = blobs(200, seed=0)
    LinearSgd(rates=(1.0,), batch_size=64, least_steps=3, epochs=1).score(train, train)
    assert asked == [[0.25], [0.25]]


def test_the_probe_with_batch_norm_does_not_depend_on_scale():
    (named,) = resolved(["linear_bn"])
    assert named.protocol == "linear_bn/lars-v1"
    train, test = blobs(200, seed=0), blobs(100, seed=1)
    probe = LinearSgd(batchnorm=True, lars=True, rates=(0.1, 10.0), least_steps=100)
    scaled = [Features(1e3 * each.x, each.label) for each in (train, test)]
    assert probe.score(train, test)[0].value == probe.score(*scaled)[0].value > 70


def test_depths_and_poolings_compete_inside_train():
    data = FakeData()
    encoder = small_resnet(data.spec(), widths=(4, 6, 8)).eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    grid = LinearGrid(probe=LinearSgd(rates=(0.1, 1.0), least_steps=30, epochs=1))
    (found,) = grid.judge(encoder, data)
    assert set(found.details["held_out_top1"]) == {
        "embedding", "stages", "embedding + average", "stages + average",
    }  # fmt: skip
    best = max(max(values) for values in found.details["held_out_top1"].values())
    assert best in found.details["held_out_top1"][found.details["features"]]
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    plain = FakeEncoder(data.spec()).eval()  # which shows no stages
    (found,) = grid.judge(plain, data)
    assert set(found.details["held_out_top1"]) == {"embedding", "embedding + average"}


def test_what_cannot_be_asked_is_said():
    with pytest.raises(ValueError, match="give positive learning rates"):
        LinearSgd(rates=())
    with pytest.raises(ValueError, match="held_out is 1"):
        LinearSgd(held_out=1.0)
    one = Features(torch.randn(3, 2), torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="each class needs 2"):
        LinearSgd().score(one, one)
