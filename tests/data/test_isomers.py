import pytest
import torch

from unlabeled.data.isomers import CLASSES, COPIES, KINDS, Isomers
from unlabeled.ops.graphs import unpack


def test_all_graphs_have_the_same_nodes_and_as_many_edges():
    data = Isomers(count=60)
    packed, label = data.graphs
    graphs = unpack(packed)
    assert graphs.mask.all()
    assert data.spec().one_hot
    assert (graphs.x.sum(1) == COPIES).all()
    assert torch.equal(graphs.adjacency, graphs.adjacency.mT)
    assert (graphs.adjacency.sum((1, 2)) == 2 * 30).all()
    assert (graphs.adjacency.diagonal(dim1=1, dim2=2) == 0).all()
    assert label.bincount().tolist() == [10] * CLASSES
    torch.testing.assert_close(data.raw(packed).sum(1), torch.full((60,), 2.0))


def test_edges_follow_the_rule_of_the_class():
    """Seven of ten edges of a class fall on its eight pairs of kinds, of 36."""
    packed, label = Isomers().graphs
    graphs = unpack(packed)
    pairs = graphs.x.mT @ graphs.adjacency @ graphs.x  # [M, KINDS, KINDS]
    mean = torch.stack([pairs[label == rule].mean(0) for rule in range(CLASSES)])
    mean = mean.triu().flatten(1)
    # edges inside a kind are counted twice on the diagonal
    share = mean.topk(KINDS, dim=1).values.sum(1) / 30
    assert (share > 0.6).all()
    assert (share < 0.75).all()
    together = torch.nn.functional.normalize(mean - mean.mean(0), dim=1)
    assert ((together @ together.mT).fill_diagonal_(0) < 0.5).all(), "rules differ"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="edges 277"):
        Isomers(edges=277)
    with pytest.raises(ValueError, match="preference 1"):
        Isomers(preference=1.0)
