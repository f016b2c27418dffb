import math

import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.encoders.image import small_resnet
from unlabeled.method import Clock
from unlabeled.methods.image.densecl import DenseCL, paper, small
from unlabeled.methods.image.moco import MoCo
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.shuffle import share_splits
from unlabeled.schedule import constant


@pytest.fixture
def made():
    def make(**options):
        torch.manual_seed(0)
        encoder = small_resnet(Digits().spec(), widths=(8, 16), blocks=(1, 1))
        options = {"dim": 4, "queue": 8, "batchnorm_splits": 1, **options}
        return DenseCL(encoder, **options)

    return make


def views(count=6):
    torch.manual_seed(1)
    return {
        "views": [torch.randn(count, 1, 16, 16) for _ in range(2)],
        "index": torch.arange(count),
    }


def test_without_the_dense_part_it_is_moco_v2(made):
    one = made(dense=constant(0.0)).eval()
    torch.manual_seed(0)
    encoder = small_resnet(Digits().spec(), widths=(8, 16), blocks=(1, 1))
    two = MoCo(encoder, head=mlp_head, dim=4, queue=8, temperature=0.2, batchnorm_splits=1).eval()
    two.queue.rows.copy_(one.queue.rows)
    terms = one.loss(views())
    torch.testing.assert_close(terms["global"], two.loss(views())["info_nce"])
    sum(terms.values()).backward()
    assert all((value.grad == 0).all() for value in one.dense_head.parameters())


def test_the_dense_part_alone_trains_backbone_and_dense_head_of_the_queries(made):
    method = made(dense=constant(1.0))
    terms = method.loss(views())
    assert terms["global"].item() == 0
    terms["dense"].backward()
    assert method.dense_head.net[2].weight.grad.abs().sum() > 0
    assert next(method.encoder.parameters()).grad.abs().sum() > 0
    assert all(value.grad is None for value in method.teacher.parameters())


def test_all_equal_keys_give_the_log_of_their_number(made):
    for weight in (0.0, 0.5, 1.0):
        method = made(dense=constant(weight), queue=99)
        for networks in (method.student, method.teacher.module):
            _, projector, dense_head = networks
            for layer in (projector[-1], dense_head.net[-1]):
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.ones_(layer.bias)
        for queue in (method.queue, method.dense_queue):
            queue.rows.copy_(torch.full((99, 4), 0.5))
        assert sum(method.loss(views()).values()).item() == pytest.approx(math.log(100), abs=1e-4)


def test_the_dense_queue_holds_means_that_are_normalized_after(made):
    method = made().eval()
    batch = views()
    share_splits(method, splits=1)
    method.loss(batch)
    encoder, projector, dense_head = method.teacher.module
    maps = encoder.maps(batch["views"][1])
    expected = torch.nn.functional.normalize(dense_head(maps).mean(2), dim=1)
    torch.testing.assert_close(method.dense_queue.rows[:6], expected)
    pooled = projector(maps.mean((2, 3)))
    torch.testing.assert_close(method.queue.rows[:6], torch.nn.functional.normalize(pooled, dim=1))


def test_the_recipes_are_the_paper_s():
    options = paper().method.keywords
    assert options == {}
    dense = small().method.keywords["dense"]
    assert [dense(Clock(step, 100, 10)) for step in (0, 9, 10, 99)] == [0.0, 0.0, 0.5, 0.5]
