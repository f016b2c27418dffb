import pytest
import torch

from unlabeled.data.graphs import GraphSpec
from unlabeled.encoders.graph import StructurePool, gin, hgp_sl, information, readout, top_share
from unlabeled.ops.graphs import Graphs

SPEC = GraphSpec(features=4, one_hot=False)
BUILDERS = {"hgp_sl": hgp_sl, "gin": gin}


def some(count=3, nodes=8, room=2):
    torch.manual_seed(0)
    adjacency = (torch.rand(count, nodes, nodes) < 0.4).float().triu(1)
    adjacency = adjacency + adjacency.mT
    graphs = Graphs(
        torch.randn(count, nodes, 4), torch.ones(count, nodes, dtype=torch.bool), adjacency
    )
    return Graphs(
        torch.nn.functional.pad(graphs.x, (0, 0, 0, room)),
        torch.nn.functional.pad(graphs.mask, (0, room)),
        torch.nn.functional.pad(graphs.adjacency, (0, room, 0, room)),
    )


def test_information_is_0_where_neighbors_tell_all():
    ring = torch.zeros(1, 6, 6)
    for i in range(6):
        ring[0, i, (i + 1) % 6] = ring[0, (i + 1) % 6, i] = 1
    same = Graphs(torch.full((1, 6, 3), 2.0), torch.ones(1, 6, dtype=torch.bool), ring)
    torch.testing.assert_close(information(same), torch.zeros(1, 6))
    other = same._replace(x=torch.eye(6)[None])
    # a node's own feature and half of each neighbor's
    torch.testing.assert_close(information(other), torch.full((1, 6), 2.0))


def test_the_top_half_is_of_each_graph_and_rounded_up():
    score = torch.tensor([[1.0, 5, 3, 9, 2], [4.0, 1, 2, 100, 100]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    kept = top_share(score, mask, share=0.5)
    assert kept.tolist() == [[False, True, True, True, False], [True, False, True, False, False]]


def test_a_pool_links_kept_nodes_by_distributions():
    pool = StructurePool(4)
    before = some()
    after = pool(before)
    assert (after.mask.sum(1) == 4).all()
    rows = after.adjacency.sum(2)
    torch.testing.assert_close(rows[after.mask], torch.ones(12))
    assert rows[~after.mask].sum() == 0
    assert torch.equal(after.x[after.mask], before.x[after.mask]), "features are not gated"


@pytest.mark.parametrize("name", BUILDERS)
def test_padding_and_the_order_of_nodes_change_nothing(name):
    torch.manual_seed(0)
    encoder = BUILDERS[name](SPEC, width=8).eval()
    with torch.no_grad():
        expected = encoder(some(room=0).pack())
        padded = encoder(some(room=5).pack())
        order = torch.randperm(8)
        graphs = some(room=0)
        moved = Graphs(
            graphs.x[:, order], graphs.mask[:, order], graphs.adjacency[:, order][:, :, order]
        )
        shuffled = encoder(moved.pack())
    assert expected.shape == (3, encoder.dim)
    torch.testing.assert_close(padded, expected)
    torch.testing.assert_close(shuffled, expected)


def test_a_readout_is_max_and_mean_of_the_nodes():
    graphs = some(count=1, nodes=3, room=1)
    found = readout(graphs)[0]
    torch.testing.assert_close(found, torch.cat([graphs.x[0, :3].amax(0), graphs.x[0, :3].mean(0)]))
