import math

import pytest
import torch

from unlabeled.data.isomers import Isomers
from unlabeled.encoders.graph import gin
from unlabeled.methods.graph.cssl_graph import GraphCSSL, RegularizedGraphs
from unlabeled.ops.graphs import unpack
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.graphs import AlteredGraphs

DATA = Isomers(count=180)


def batch_of(count=24, **options):
    raw = DATA.split("train").__getitems__(list(range(count)))
    return AlteredGraphs(**options).fit(DATA.spec())(raw, SampleGenerator(0, 0, raw["index"]))


def encoder():
    torch.manual_seed(0)
    return gin(DATA.spec(), width=8, layers=2)


def test_each_view_is_one_of_four_alterations():
    raw = DATA.split("train").__getitems__(list(range(90)))
    views = AlteredGraphs().fit(DATA.spec())
    before = unpack(raw["views"][0])
    seen = views(raw, SampleGenerator(0, 0, raw["index"]))["views"]
    kinds = set()
    for view in seen:
        after = unpack(view)
        nodes = (after.mask.sum(1) - before.mask.sum(1)).tolist()
        edges = (after.adjacency.sum((1, 2)) - before.adjacency.sum((1, 2))).tolist()
        for node, edge in zip(nodes, edges, strict=True):
            kinds.add((node, edge) if node == 0 else (node, None))
        assert (after.x.sum(2)[after.mask] == 1).all(), "one-hot features stay one-hot"
    assert kinds == {(0, -2), (0, 2), (-1, None), (1, None)}
    assert not torch.equal(*seen)


def test_all_keys_alike_give_the_log_of_their_number():
    method = GraphCSSL(encoder(), dim=4, queue=31)
    for network in (method.projector, method.teacher.module[1]):
        last = network[-1][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.ones_(last.bias)
    method.queue.rows.copy_(torch.full((31, 4), 0.5))
    loss = method.loss(batch_of())["info_nce"]
    assert loss.item() == pytest.approx(math.log(32), abs=1e-4)


def test_the_keys_network_is_a_copy_that_moves_by_its_momentum():
    method = GraphCSSL(encoder(), dim=4, queue=48)
    method.loss(batch_of())["info_nce"].backward()
    assert all(value.grad is None for value in method.teacher.parameters())
    first = next(method.encoder.parameters())
    teacher = next(method.teacher.parameters())
    assert teacher.data_ptr() != first.data_ptr(), "not the student's own weights"
    before = teacher.clone()
    with torch.no_grad():
        first += 1
    method.after_step()
    torch.testing.assert_close(teacher, 0.999 * before + 0.001 * first)


def test_a_weight_of_zero_is_classification_alone():
    batch = batch_of(plain=True)
    method = RegularizedGraphs(encoder(), classes=6, weight=0.0, dim=4, queue=48)
    terms = method.loss(batch)
    logits = method.classifier(method.encoder(batch["views"][2]))
    expected = torch.nn.functional.cross_entropy(logits, batch["label"])
    assert sum(terms.values()).item() == pytest.approx(expected.item(), abs=1e-6)
    assert len(batch["views"]) == 3


def test_a_set_in_no_order_is_refused():
    with pytest.raises(ValueError, match="smallest 5, largest 3"):
        AlteredGraphs(smallest=5, largest=3)
