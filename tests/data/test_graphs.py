import pytest

from unlabeled.data import open_data
from unlabeled.data.graphs import GraphFolder
from unlabeled.data.isomers import Isomers
from unlabeled.ops.graphs import unpack


def write(folder, *, labels=True, kinds=True):
    """Two graphs: a triangle, and a path of two with an edge that is written once."""
    folder.mkdir(exist_ok=True)
    edges = ["1, 2", "2, 1", "2, 3", "3, 2", "1, 3", "3, 1", "4, 5"]
    (folder / "TOY_A.txt").write_text("\n".join(edges) + "\n")
    (folder / "TOY_graph_indicator.txt").write_text("1\n1\n1\n2\n2\n")
    if labels:
        (folder / "TOY_graph_labels.txt").write_text("-1\n1\n")
    if kinds:
        (folder / "TOY_node_labels.txt").write_text("0\n1\n0\n2\n2\n")
    return folder


def test_a_folder_in_the_tu_format(tmp_path):
    data = open_data(str(write(tmp_path / "toy")))
    assert data == GraphFolder(str(tmp_path / "toy"))
    packed, label = data.graphs
    graphs = unpack(packed)
    assert label.tolist() == [0, 1]
    assert graphs.mask.sum(1).tolist() == [3, 2]
    assert graphs.adjacency.sum((1, 2)).tolist() == [6, 2]
    assert graphs.x[0].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert data.spec().features == 3
    assert data.spec().one_hot


def test_without_features_degrees_stand_in_and_without_labels_there_are_none(tmp_path):
    data = GraphFolder(str(write(tmp_path / "bare", labels=False, kinds=False)))
    packed, label = data.graphs
    assert label is None
    assert unpack(packed).x[0].argmax(1).tolist() == [2, 2, 2]
    assert unpack(packed).x[1, :2].argmax(1).tolist() == [1, 1]
    assert data.classes is None


def test_what_is_damaged_or_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="TU format"):
        _ = GraphFolder(str(tmp_path / "none")).graphs
    folder = write(tmp_path / "hurt")
    (folder / "TOY_A.txt").write_text("1, 2\nnot a number\n")
    with pytest.raises(ValueError, match="hurt is damaged"):
        _ = GraphFolder(str(folder)).graphs


def test_graphs_with_other_features_than_the_encoder_takes_are_refused(tmp_path):
    data = GraphFolder(str(write(tmp_path / "toy")))
    with pytest.raises(ValueError, match="toy has 3 features a node, the encoder takes 8"):
        data.prepare(Isomers().spec())
