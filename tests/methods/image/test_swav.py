import math
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet
from unlabeled.methods.image import swav
from unlabeled.methods.image.swav import SwAV
from unlabeled.nn.norms import global_batchnorm
from unlabeled.nn.optim import Larc
from unlabeled.ops.sinkhorn import sinkhorn
from unlabeled.schedule import Clock


def no_sweep(function):
    raise AssertionError("SwAV does not sweep")


def loss_of(method, batch):
    method.before_step(no_sweep)
    (value,) = method.loss(batch).values()
    return value


def small(encoder, **options):
    return SwAV(encoder, **{"hidden": 16, "dim": 8, "prototypes": 12, "freeze_steps": 0, **options})


def test_collapsed_features_give_the_log_of_the_number_of_prototypes(given, pair):
    """The codes are uniform then; with equal prototypes the predictions are, too."""
    method = SwAV(given(4), prototypes=3000, dim=4)
    method.projector = nn.Identity()
    with torch.no_grad():
        method.prototypes.weight.copy_(torch.ones(3000, 4))
    value = loss_of(method, pair(torch.ones(8, 4), torch.ones(8, 4))).item()
    assert value == pytest.approx(8.0064, abs=1e-4)
    assert value == pytest.approx(math.log(3000), rel=1e-5)


def test_loss_equals_the_papers_loop_over_crops(encoder, views):
    """Codes of the two large crops, predicted from all other crops; small ones give none."""
    method = small(encoder).double()
    method.before_step(no_sweep)
    batch = views(6, sizes=(16, 16, 8, 8))
    batch["views"] = [view.double() for view in batch["views"]]
    z = method._features(batch["views"])
    weight = F.normalize(method.prototypes.weight, dim=1)
    total = 0.0
    for a in (0, 1):
        code = sinkhorn(z[a] @ weight.T)
        for v in range(4):
            if v != a:
                predicted = (z[v] @ weight.T / 0.1).softmax(1)
                total -= sum((code[i] * predicted[i].log()).sum() for i in range(6)) / 6 / 3 / 2
    torch.testing.assert_close(method.loss(batch)["swap"], total)


def test_one_pass_a_resolution_and_one_of_the_head(encoder, views):
    method = small(encoder)
    rows = {"encoder": [], "head": []}
    method.encoder.register_forward_hook(lambda m, x, y: rows["encoder"].append(tuple(x[0].shape)))
    method.projector.register_forward_hook(lambda m, x, y: rows["head"].append(len(y)))
    batch = views(4, sizes=(16, 16, 8, 8, 8))
    loss_of(method, batch)
    assert rows == {"encoder": [(8, 1, 16, 16), (12, 1, 8, 8)], "head": [20]}
    z = method._features(batch["views"])
    assert len(z) == 5
    torch.testing.assert_close(z[3].norm(dim=1), torch.ones(4))


def test_swapping_the_two_large_crops_changes_nothing(encoder, views):
    method = small(encoder).double()
    one, two = (view.double() for view in views(6)["views"])
    index = torch.arange(6)
    value = loss_of(method, {"views": [one, two], "index": index})
    torch.testing.assert_close(loss_of(method, {"views": [two, one], "index": index}), value)


def test_prototypes_are_unit_vectors_when_the_step_begins(encoder, views):
    method = small(encoder)
    with torch.no_grad():
        method.prototypes.weight.mul_(3)
    loss_of(method, views(4)).backward()
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(12))
    # the gradient is that of the plain scores, not projected on the sphere
    assert (method.prototypes.weight.grad * method.prototypes.weight).sum(1).abs().max() > 1e-4


@pytest.mark.parametrize(("kind", "rate"), [(Larc, 10.0), (torch.optim.AdamW, 0.1)])
def test_frozen_prototypes_stay_while_the_encoder_learns(encoder, views, kind, rate):
    """Their gradient is 0 rather than None, which DDP would wait for; decay cannot turn them."""
    method = small(encoder, freeze_steps=3)
    optimizer = kind(method.parameters(), lr=rate, weight_decay=0.1)
    start = method.prototypes.weight.detach().clone()
    for step in range(4):
        method.clock = Clock(step, 10, 10)
        optimizer.zero_grad()
        loss_of(method, views(6, seed=step)).backward()
        gradient = method.prototypes.weight.grad
        assert bool(gradient.any()) is (step == 3)
        assert method.projector[0].weight.grad.abs().sum() > 0
        torch.testing.assert_close(method.prototypes.weight.detach(), start)
        optimizer.step()
    method.before_step(no_sweep)
    assert not torch.allclose(method.prototypes.weight, start, atol=1e-4)


def test_codes_carry_no_gradient(encoder, views, monkeypatch):
    method = small(encoder)
    seen = []
    plain = sinkhorn

    def watch(scores, **options):
        seen.append((scores.requires_grad, plain(scores, **options)))
        return seen[-1][1]

    monkeypatch.setattr(swav, "sinkhorn", watch)
    loss_of(method, views(4)).backward()
    assert len(seen) == 2
    assert not any(code.requires_grad for _, code in seen)


def test_the_queue_fills_from_its_epoch_and_is_used_once_full(encoder, views, monkeypatch):
    method = small(encoder, queue=8, queue_from=2)
    rows = []
    plain = sinkhorn

    def watch(scores, **options):
        rows.append(len(scores))
        return plain(scores, **options)

    monkeypatch.setattr(swav, "sinkhorn", watch)
    past = []
    for step in range(7):
        method.clock = Clock(step, 70, 2)  # epoch 2 begins at step 4
        batch = views(4, seed=step)
        method.before_step(no_sweep)
        with torch.no_grad():
            method.loss(batch)
            past.append(method._features(batch["views"]))
    assert rows == [4] * 12 + [12] * 2
    for crop in (0, 1):
        # newest first; the statistics of the batch are the same in both passes
        torch.testing.assert_close(
            method.queue.rows(crop), torch.cat([past[6][crop], past[5][crop]])
        )


def test_past_features_are_scored_with_the_present_prototypes(given, pair):
    method = SwAV(given(4), prototypes=5, dim=4, freeze_steps=0, queue=6, queue_from=0).double()
    method.projector = nn.Identity()
    for _ in range(2):
        loss_of(method, pair(*torch.randn(2, 3, 4).double()))
    queue = [method.queue.rows(crop).clone() for crop in (0, 1)]
    with torch.no_grad():
        method.prototypes.weight.normal_()
    one, two = F.normalize(torch.randn(2, 3, 4).double(), dim=2)
    value = loss_of(method, pair(one, two))
    weight = F.normalize(method.prototypes.weight.detach(), dim=1)
    total = 0.0
    for a, b, past in ((one, two, queue[0]), (two, one, queue[1])):
        code = sinkhorn(torch.cat([past, a]) @ weight.T)[-3:]
        total -= (code * (b @ weight.T / 0.1).log_softmax(1)).sum(1).mean() / 2
    torch.testing.assert_close(value.detach(), total)


def test_recipe_is_the_papers():
    recipe = swav.paper()
    epoch = recipe.data.size("train") // recipe.batch_size
    scale = recipe.batch_size / recipe.optim.lr_per
    rate = [recipe.optim.lr(Clock(e * epoch, 800 * epoch, epoch)) * scale for e in (0, 10, 800)]
    assert rate == pytest.approx([0.3, 4.8, 0.0048])
    assert recipe.optim.rules == ()  # decay and adaptation apply to all
    fitted = recipe.fitted().views
    assert (fitted.large.size, fitted.small.size) == (224, 96)
    assert (fitted.large_count, fitted.small_count) == (2, 6)
    assert (fitted.large.scale, fitted.small.scale) == ((0.14, 1.0), (0.05, 0.14))


def measure(rank: int, ranks: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    spec = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
    method = small(small_resnet(spec, widths=(8, 8, 16)), queue=16, queue_from=0)
    global_batchnorm(method).double()
    for step in range(4):  # from the third on the queue is full
        x = torch.randn(2, 8, 1, 16, 16, generator=torch.Generator().manual_seed(step)).double()
        own = slice(rank * 8 // ranks, (rank + 1) * 8 // ranks)
        method.zero_grad()
        value = loss_of(method, {"views": [x[0, own], x[1, own]], "index": torch.arange(8)[own]})
        value.backward()
    return {
        "loss": value.detach(),
        "gradient": method.projector[0].weight.grad.clone(),
        "queue": method.queue.features.clone(),
    }


def work(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=60),
    )
    result = measure(rank, ranks)
    for name in ("loss", "gradient"):
        dist.all_reduce(result[name])
        result[name] /= ranks
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_with_a_full_queue_two_ranks_equal_one(tmp_path):
    mp.spawn(work, args=(2, str(tmp_path)), nprocs=2, join=True)
    expected = measure(0, 1)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)
