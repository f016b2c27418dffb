"""Graphs: folders in the TU format, and MUTAG."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.source import DataSource
from unlabeled.data.wheels import take_from_wheel
from unlabeled.extras import require
from unlabeled.method import Batch
from unlabeled.ops.graphs import Graphs, unpack

MOST_NODES = 1000
MUTAG_REMEDY = "run: unlabeled data get mutag"


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """What an encoder of graphs takes: [B, N, features + 1 + N], see `unlabeled.ops.graphs`.

    ``one_hot`` says that each node has one feature that is 1.
    """

    features: int
    one_hot: bool


class GraphSource(DataSource):
    """A source of graphs, packed as `unlabeled.ops.graphs` says; labels are of whole graphs.

    A graph whose crc32(number) % 5 == 0 is "test".
    """

    modality = "graph"

    @property
    @abstractmethod
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """[M, N, F + 1 + N] of all graphs, and [M] labels."""

    def spec(self) -> GraphSpec:
        """Return the width of the features, and whether they are one-hot."""
        x = unpack(self.graphs[0])
        hot = bool(((x.x == 0) | (x.x == 1)).all() and (x.x.sum(2)[x.mask] == 1).all())
        return GraphSpec(features=x.x.shape[2], one_hot=hot)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Numbers of the classes."""
        label = self.graphs[1]
        return None if label is None else tuple(str(k) for k in range(int(label.max()) + 1))

    def size(self, split: str) -> int:
        """Return the number of graphs."""
        return len(self.split(split))

    def split(self, name: str) -> GraphSamples:
        """Return "train", "test" or "all"."""
        packed, label = self.graphs
        key = torch.tensor([crc32(str(row).encode()) % 5 == 0 for row in range(len(packed))])
        parts = {"train": ~key, "test": key, "all": torch.ones_like(key)}
        if name not in parts:
            raise no_split(self.name, name, parts)
        chosen = parts[name]
        return GraphSamples(packed[chosen], None if label is None else label[chosen])

    def prepare(self, spec: GraphSpec) -> Callable[[Batch], Tensor]:
        """Return the function that takes graphs as they are.

        Raises:
            ValueError: nodes have other features than the encoder takes.
        """
        own = self.spec().features
        if own != spec.features:
            raise ValueError(
                f"{self.name} has {own} features a node, the encoder takes {spec.features}: give "
                "graphs with the features that it was trained on"
            )
        return _first

    def raw(self, x: Tensor) -> Tensor:
        """[B, F + 16]: mean features of the nodes, and shares of degrees 0 to 15 or more."""
        graphs = unpack(x)
        count = graphs.mask.sum(1, keepdim=True).clamp_min(1)
        degree = graphs.adjacency.gt(0).sum(2).clamp_max(15)
        kinds = torch.nn.functional.one_hot(degree, 16) * graphs.mask[..., None]
        return torch.cat([graphs.x.sum(1) / count, kinds.sum(1) / count], 1).float()


def _first(batch: Batch) -> Tensor:
    packed: Tensor = batch["views"][0]
    return packed


class GraphSamples:
    """A split in memory."""

    def __init__(self, packed: Tensor, label: Tensor | None) -> None:
        self.packed, self.label = packed, label

    def __len__(self) -> int:
        return len(self.packed)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read graphs."""
        index = torch.as_tensor(places, dtype=torch.int64)
        batch = Batch(views=[self.packed[index]], index=index)
        if self.label is not None:
            batch["label"] = self.label[index]
        return batch


@dataclass(frozen=True)
class GraphFolder(GraphSource):
    """A folder in the text format of the TU collection, read by PyTorch Geometric.

    NAME_A.txt (an edge "i, j" a line, nodes from 1), NAME_graph_indicator.txt (the graph of each
    node) and, where known, NAME_graph_labels.txt, NAME_node_labels.txt, NAME_node_attributes.txt.
    Nodes without either have their degree, up to 15, as a one-hot feature.

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: no such folder or files, at the first use.
        ValueError: damaged files, or graphs of more than 1,000 nodes.
    """

    path: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name.lower()

    @property
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """All of them."""
        return _read(self.path)


@dataclass(frozen=True)
class Mutag(GraphSource):
    """MUTAG: 188 molecules of 10 to 28 atoms of 7 elements, and whether they are mutagenic.

    Read from the package grakel, which holds it (BSD licence).

    Raises:
        FileNotFoundError: at the first use, where it has not been fetched.
    """

    @property
    def name(self) -> str:
        """``mutag``."""
        return "mutag"

    @property
    def classes(self) -> tuple[str, ...]:
        """The two classes."""
        return ("not mutagenic", "mutagenic")

    @property
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """All 188."""
        return _read(str(find_mutag()))


@dataclass(frozen=True)
class Proteins(GraphSource):
    """PROTEINS of the TU collection: 1,113 graphs, and whether they are enzymes.

    Facts need no files; these are to be put into PROTEINS of our cache folder, or ``root``.

    Raises:
        FileNotFoundError: at the first ``split``.
    """

    root: str | None = None

    @property
    def name(self) -> str:
        """``proteins``."""
        return "proteins"

    def spec(self) -> GraphSpec:
        """Return one attribute and three kinds of nodes."""
        return GraphSpec(features=4, one_hot=False)

    @property
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """All 1,113."""
        folder = Path(self.root) if self.root is not None else cache_folder("PROTEINS")
        if not is_graph_folder(folder):
            raise FileNotFoundError(
                f"proteins is not in {folder}: unpack the TU collection's PROTEINS there, or use "
                "small()"
            )
        return _read(str(folder))


def is_graph_folder(path: Path) -> bool:
    """Whether a folder is in the TU format."""
    return any(path.glob("*_graph_indicator.txt"))


@lru_cache(maxsize=4)
def _read(path: str) -> tuple[Tensor, Tensor | None]:
    folder = Path(path)
    found = sorted(folder.glob("*_graph_indicator.txt"))
    if not found:
        raise FileNotFoundError(
            f"{path} has no NAME_graph_indicator.txt: give a folder in the TU format"
        )
    io = require("torch_geometric.io", extra="graph")
    name = found[0].name.removesuffix("_graph_indicator.txt")
    try:
        data, slices, _ = io.read_tu_data(str(folder), name)
    except (ValueError, IndexError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is damaged ({reason}): write its files anew") from error
    indicator = torch.tensor([int(line) for line in found[0].read_text().split()])
    counts = torch.bincount(indicator - 1).tolist()
    most = max(counts)
    if most > MOST_NODES:
        raise ValueError(
            f"{path} has a graph of {most} nodes, and up to {MOST_NODES} are held: leave it out"
        )
    width = 16 if data.x is None else data.x.shape[1]
    graphs = Graphs(
        torch.zeros(len(counts), most, width),
        torch.zeros(len(counts), most, dtype=torch.bool),
        torch.zeros(len(counts), most, most),
    )
    first = 0
    for row, count in enumerate(counts):
        own = data.edge_index[:, slices["edge_index"][row] : slices["edge_index"][row + 1]]
        graphs.adjacency[row, own[0], own[1]] = 1
        graphs.mask[row, :count] = True
        if data.x is not None:
            graphs.x[row, :count] = data.x[first : first + count].float()
        first += count
    adjacency = torch.maximum(graphs.adjacency, graphs.adjacency.mT)
    adjacency.diagonal(dim1=1, dim2=2).zero_()
    x = graphs.x
    if data.x is None:
        degree = adjacency.sum(2).long().clamp_max(15)
        x = torch.nn.functional.one_hot(degree, 16).float() * graphs.mask[..., None]
    label = None if data.y is None else torch.unique(data.y, return_inverse=True)[1]
    return Graphs(x, graphs.mask, adjacency).pack(), label


def find_mutag() -> Path:
    """Return the folder of MUTAG; no network.

    Raises:
        FileNotFoundError: it has not been fetched; the message says how.
    """
    folder = cache_folder("mutag")
    if (folder / "MUTAG_A.txt").is_file():
        return folder
    raise FileNotFoundError(f"mutag is not in {folder}: {MUTAG_REMEDY}")


def get_mutag() -> Path:
    """Find MUTAG or take it out of the package grakel, which pip fetches.

    Raises:
        OSError: it cannot be had; the message says why.
    """
    try:
        return find_mutag()
    except FileNotFoundError:
        pass
    target = cache_folder("mutag")
    try:
        take_from_wheel("grakel==0.1.11", into=target, wanted=lambda name: "/MUTAG/MUTAG_" in name)
    except OSError as error:
        raise OSError(f"{error}. Put MUTAG's files into {target}") from None
    return find_mutag()
