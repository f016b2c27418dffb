import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.methods.image import looc
from unlabeled.methods.image.looc import LooC, left_out
from unlabeled.methods.image.moco import MoCo
from unlabeled.schedule import Clock


def batch_of(*views):
    return {"views": list(views), "index": torch.arange(len(views[0]))}


@pytest.mark.parametrize(("families", "queue", "expected"), [(2, 8, 3.79582), (0, 8, 2.19722)])
def test_equal_similarities(given, no_head, families, queue, expected):
    """((n + 1) log(1 + K) + n log(n + 1 + K)) / (n + 1)."""
    method = LooC(given(3), families=families, head=no_head, dim=3, queue=queue)
    for each in method.queues:
        each.rows.copy_(torch.tensor([0.0, 1.0, 0.0]).expand(queue, 3))
    z = torch.tensor([[0.0, 1.0, 0.0]])
    value = sum(method.loss(batch_of(*[z] * (families + 2))).values()).item()
    n, k = families, queue
    closed = ((n + 1) * math.log(1 + k) + n * math.log(n + 1 + k)) / (n + 1)
    assert value == pytest.approx(closed, rel=1e-5)
    assert value == pytest.approx(expected, abs=1e-4)


def test_equals_a_slow_loop_over_spaces_and_keys(given, no_head):
    """Heads are fixed matrices; every term is written out from the paper's sums."""
    t, count, n = 0.4, 3, 2
    method = LooC(given(4), families=n, head=no_head, dim=4, queue=6, temperature=t)
    maps = [torch.nn.Linear(4, 4, bias=False) for _ in range(n + 1)]
    for place, head in enumerate(maps):
        method.heads[place] = head
        method.teacher.module.heads[place] = head
    views = [torch.randn(count, 4) for _ in range(n + 2)]
    queues = [queue.rows.clone() for queue in method.queues]
    value = sum(method.loss(batch_of(*views)).values()).item()
    total = 0.0
    with torch.no_grad():
        z = [[F.normalize(head(view), dim=1) for view in views] for head in maps]
    for b in range(count):

        def e(i, j, b=b):
            return math.exp(z[i][0][b].dot(z[i][1 + j][b]).item() / t)

        noise = [sum(math.exp(z[i][0][b].dot(r).item() / t) for r in queues[i]) for i in range(3)]
        total += sum(math.log(e(0, j) / (e(0, j) + noise[0])) for j in range(n + 1))
        for i in range(1, n + 1):
            everyone = sum(e(i, j) for j in range(n + 1)) + noise[i]
            total += math.log(e(i, i) / everyone)
    assert value == pytest.approx(-total / (count * (n + 1)), rel=1e-4)


def test_without_families_it_is_moco(encoder, views):
    torch.manual_seed(0)
    method = LooC(encoder, families=0, dim=8, queue=16, temperature=0.07, batchnorm_splits=2)
    other = MoCo(encoder, head=looc.mlp_head, dim=8, queue=16, batchnorm_splits=2)
    other.projector.load_state_dict(method.heads[0].state_dict())
    other.teacher.module[1].load_state_dict(method.heads[0].state_dict())
    other.queue.load_state_dict(method.queues[0].state_dict())
    batch = views(8)
    (value,), (expected,) = method.eval().loss(batch).values(), other.eval().loss(batch).values()
    torch.testing.assert_close(value, expected)


def test_each_head_learns_from_its_own_terms_and_keys_from_none(encoder, views):
    method = LooC(encoder, families=2, dim=8, queue=16, batchnorm_splits=2)
    batch = views(4, sizes=(16,) * 4)
    for name in ("invariant", "space1", "space2"):
        method.zero_grad()
        method.loss(batch)[name].backward()
        learns = [head[0].weight.grad.abs().sum() > 0 for head in method.heads]
        assert learns == [name == "invariant", name == "space1", name == "space2"]
        assert all(p.grad.abs().sum() > 0 for p in method.encoder.parameters())
        assert not any(p.requires_grad for p in method.teacher.parameters())


def test_each_queue_gets_the_key_of_its_own_view(given, no_head):
    method = LooC(given(4), families=2, head=no_head, dim=4, queue=5)
    views = [torch.randn(2, 4) for _ in range(4)]
    method.loss(batch_of(*views))
    for place, queue in enumerate(method.queues):
        torch.testing.assert_close(queue.rows[:2], F.normalize(views[1 + place], dim=1))


def test_other_keys_of_the_image_are_negatives_of_a_left_out_space():
    q = torch.tensor([[1.0, 0.0]])
    k = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])  # k_0 apart, k_1 on the query
    bank = torch.tensor([[0.0, 1.0]])
    near = left_out(q, k, bank, own=1, temperature=1.0)
    assert near.item() == pytest.approx(math.log(1 + 2 * math.exp(-1)))
    both = left_out(q, k[[1, 1]], bank, own=1, temperature=1.0)
    assert both.item() == pytest.approx(math.log(2 + math.exp(-1)))


def test_spaces_give_the_hidden_layers_and_views_must_fit(encoder, views):
    method = LooC(encoder, families=2, dim=8, queue=16, batchnorm_splits=1).eval()
    x = views(3)["views"][0]
    found = method.predictors()["spaces"](x)
    assert found.shape == (3, 3 * 16)
    assert found.min() >= 0
    with pytest.raises(ValueError, match="2 views for 3 spaces"):
        method.loss(views(4))


def test_recipe_is_the_papers():
    recipe = looc.paper()
    assert (recipe.epochs, recipe.batch_size, recipe.views.families) == (500, 256, ("rotation",))
    rates = [recipe.optim.lr(Clock(epoch, 500, 1)) for epoch in (0, 299, 300, 399, 400)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003])
    with torch.device("meta"):
        method = recipe.build()
    assert len(method.heads) == 2
    assert method.queues[0].rows.shape == (16384, 128)
    small = looc.small()
    assert small.method.keywords["families"] == len(small.views.families)
