import torch

from unlabeled.ops.graphs import (
    Graphs,
    delete_edge,
    delete_node,
    insert_edge,
    insert_node,
    reachable,
    unpack,
    widen,
)

COUNT, NODES = 300, 9


def graphs(edges, nodes, *, room=1):
    """Copies of one graph with one-hot features, and room for a node."""
    adjacency = torch.zeros(nodes + room, nodes + room)
    for i, j in edges:
        adjacency[i, j] = adjacency[j, i] = 1
    x = torch.zeros(nodes + room, 4)
    x[torch.arange(nodes), torch.arange(nodes) % 4] = 1
    mask = torch.arange(nodes + room) < nodes
    return Graphs(*(part.expand(COUNT, *part.shape).clone() for part in (x, mask, adjacency)))


RING = [(i, (i + 1) % 6) for i in range(6)]


def draws(*shape):
    torch.manual_seed(0)
    return torch.rand(COUNT, *shape)


def edges(made):
    assert torch.equal(made.adjacency, made.adjacency.mT)
    assert made.adjacency.diagonal(dim1=1, dim2=2).sum() == 0
    outside = ~(made.mask[:, :, None] & made.mask[:, None])
    assert made.adjacency[outside].sum() == 0
    assert made.x[~made.mask].abs().sum() == 0
    return made.adjacency.sum((1, 2))


def test_deleting_an_edge_takes_both_directions_of_each_edge_alike():
    made = delete_edge(graphs(RING, 6), draws(7, 7))
    assert (edges(made) == 10).all()
    gone = (graphs(RING, 6).adjacency - made.adjacency).sum(0)
    assert (gone[gone > 0] > COUNT / 6 / 2).all()
    none = delete_edge(graphs([], 3), draws(4, 4))
    assert (edges(none) == 0).all()


def test_deleting_a_node_takes_its_edges_and_leaves_a_node_and_an_edge():
    made = delete_node(graphs(RING, 6), draws(7))
    assert (made.mask.sum(1) == 5).all()
    assert (edges(made) == 8).all()
    # of a star, whose middle holds all edges, only leaves go
    star = delete_node(graphs([(0, 1), (0, 2), (0, 3)], 4), draws(5))
    assert star.mask[:, 0].all()
    assert (edges(star) == 4).all()
    pair = delete_node(graphs([(0, 1)], 2), draws(3))
    assert (pair.mask.sum(1) == 2).all()


def test_an_edge_is_inserted_where_a_path_is_but_no_edge_else_one_is_deleted():
    two = [(0, 1), (1, 2), (3, 4)]
    made = insert_edge(graphs(two, 5), draws(6, 6))
    assert (edges(made) == 8).all()
    assert made.adjacency[:, 0, 2].all(), "the one pair with a path and without an edge"
    triangle = insert_edge(graphs([(0, 1), (1, 2), (0, 2)], 3), draws(4, 4))
    assert (edges(triangle) == 4).all()


def test_an_inserted_node_takes_the_place_of_the_edges_of_a_connected_set():
    before = graphs(RING, 6)
    size = torch.full((COUNT,), 3)
    made = insert_node(before, draws(5, 7), size, one_hot=True)
    assert (made.mask.sum(1) == 7).all()
    assert (edges(made) == 12 - 4 + 6).all(), "a path of three loses two edges, and gets three"
    linked = made.adjacency[:, 6, :6] > 0
    assert (linked.sum(1) == 3).all()
    for row in linked[:20]:
        inside = before.adjacency[0, :6, :6][row][:, row]
        assert inside.sum() == 4, "connected"
    assert (made.x[:, 6].sum(1) == 1).all()
    mean = insert_node(before, draws(5, 7), size, one_hot=False)
    expected = (linked[0].float() @ before.x[0, :6]) / 3
    torch.testing.assert_close(mean.x[0, 6], expected)


def test_nothing_is_written_into_the_graphs_that_came_in():
    before = graphs(RING, 6)
    kept = before.pack().clone()
    delete_edge(before, draws(7, 7))
    insert_edge(before, draws(7, 7))
    insert_node(before, draws(5, 7), torch.full((COUNT,), 4), one_hot=False)
    assert torch.equal(before.pack(), kept)


def test_reachable_is_the_closure():
    found = reachable(graphs([(0, 1), (1, 2), (3, 4)], 5).adjacency[:1])[0]
    assert found[0, 2]
    assert not found[0, 3]


def test_packing_is_undone_and_widening_adds_no_nodes():
    before = graphs(RING, 6)
    for one, other in zip(unpack(before.pack()), before, strict=True):
        assert torch.equal(one, other)
    wide = widen(before, nodes=10)
    assert wide.pack().shape == (COUNT, 10, 4 + 1 + 10)
    assert torch.equal(wide.mask.sum(1), before.mask.sum(1))
