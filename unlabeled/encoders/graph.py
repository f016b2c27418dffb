"""Encoders of graphs, over the dense layers of PyTorch Geometric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.graphs import GraphSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.extras import require
from unlabeled.ops.graphs import Graphs, unpack
from unlabeled.ops.sparsemax import sparsemax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def information(graphs: Graphs) -> Float[Tensor, "B N"]:
    """``|x_i - sum_j (D^-1/2 A D^-1/2)_ij x_j|_1``: what neighbors do not tell of a node."""
    degree = graphs.adjacency.sum(2)
    scale = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), 0)
    smooth = (scale[:, :, None] * graphs.adjacency * scale[:, None]) @ graphs.x
    return (graphs.x - smooth).abs().sum(2)


def top_share(
    score: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], *, share: float
) -> Bool[Tensor, "B N"]:
    """The ``ceil(share n)`` nodes of each graph with the highest score."""
    order = torch.where(mask, score, -1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    most = (share * mask.sum(1, keepdim=True).double()).ceil()
    return mask & (rank < most)


class StructurePool(nn.Module):
    """HGP-SL's pooling: half of the nodes by information, and new edges between them.

    ``e_ij = LeakyReLU(a . [x_i; x_j]) + A_ij`` over the kept nodes of a graph, each row by
    sparsemax (Zhang et al. 2019, eq. 5 to 8).

    Args:
        dim: of the features.
        share: of the nodes that stay.
    """

    def __init__(self, dim: int, *, share: float = 0.5) -> None:
        super().__init__()
        self.attention = nn.Linear(2 * dim, 1, bias=False)
        self.share = share

    def forward(self, graphs: Graphs) -> Graphs:
        """The kept nodes, in their places, with weighted edges."""
        kept = top_share(information(graphs), graphs.mask, share=self.share)
        from_, to = self.attention.weight[0].chunk(2)
        score = F.leaky_relu((graphs.x @ from_)[:, :, None] + (graphs.x @ to)[:, None], 0.2)
        both = kept[:, :, None] & kept[:, None]
        adjacency = sparsemax(score + graphs.adjacency, both)
        return Graphs(graphs.x * kept[..., None], kept, adjacency)


def readout(graphs: Graphs) -> Float[Tensor, "B two_d"]:
    """[max; mean] over the nodes."""
    mask = graphs.mask[..., None]
    count = mask.sum(1).clamp_min(1)
    top = torch.where(mask, graphs.x, torch.finfo(graphs.x.dtype).min).amax(1)
    return torch.cat([torch.where(mask.any(1), top, 0), (graphs.x * mask).sum(1) / count], 1)


class GraphEncoder(Encoder):
    """Stages of a graph network; ``local`` are their readouts [B, stages, dim].

    ``encoder(x)`` is the sum of their ReLUs.
    """

    def __init__(self, spec: GraphSpec, *, convs: nn.ModuleList, pools: nn.ModuleList) -> None:
        super().__init__()
        self.spec: GraphSpec = spec
        self.convs, self.pools = convs, pools
        self.dim = 2 * int(convs[-1].out_channels)  # type: ignore[arg-type]

    def local(self, x: Float[Tensor, "B N width"]) -> Float[Tensor, "B stages dim"]:
        """[B, stages, dim]: [max; mean] of the nodes after each stage."""
        graphs, found = unpack(x), []
        for conv, pool in zip(self.convs, self.pools, strict=True):
            graphs = graphs._replace(
                x=F.relu(conv(graphs.x, graphs.adjacency, graphs.mask)) * graphs.mask[..., None]
            )
            graphs = pool(graphs)
            found.append(readout(graphs))
        return torch.stack(found, 1)

    def pool(self, local: Float[Tensor, "B stages dim"]) -> Float[Tensor, "B dim"]:
        """[B, dim]."""
        return F.relu(local).sum(1)


def hgp_sl(spec: GraphSpec, *, width: int = 128, share: float = 0.5) -> GraphEncoder:
    """Build the HGP-SL network: GCN, pool, GCN, pool, GCN.

    Args:
        spec: the input.
        width: of each layer; embeddings are twice as wide.
        share: of the nodes that a pool keeps.

    Raises:
        ImportError: PyTorch Geometric is missing; says how to get it.
    """
    dense = require("torch_geometric.nn.dense", extra="graph")
    widths = [spec.features, width, width]
    convs = nn.ModuleList(dense.DenseGCNConv(inputs, width) for inputs in widths)
    pools: list[nn.Module] = [StructurePool(width, share=share) for _ in range(2)]
    return GraphEncoder(spec, convs=convs, pools=nn.ModuleList([*pools, nn.Identity()]))


class Gin(nn.Module):
    """``MLP((1 + eps) x_i + sum_j A_ij x_j)`` (Xu et al. 2019, eq. 4.1), eps learned."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        dense = require("torch_geometric.nn.dense", extra="graph")
        net = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
        self.conv, self.out_channels = dense.DenseGINConv(net, train_eps=True), width

    def forward(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """[B, N, width]."""
        return self.conv(x, adjacency, mask)


def gin(spec: GraphSpec, *, width: int = 64, layers: int = 3) -> GraphEncoder:
    """Build a GIN with a readout after each layer.

    Args:
        spec: the input.
        width: of each layer; embeddings are twice as wide.
        layers: how many.

    Raises:
        ImportError: PyTorch Geometric is missing; says how to get it.
    """
    widths = [spec.features, *[width] * (layers - 1)]
    convs = nn.ModuleList(Gin(inputs, width) for inputs in widths)
    return GraphEncoder(spec, convs=convs, pools=nn.ModuleList(nn.Identity() for _ in widths))
