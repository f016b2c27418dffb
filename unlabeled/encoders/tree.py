"""TreeEncoder: a ReLU network that mirrors a binary tree."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unlabeled.data.latent_tree import TreeSpec
from unlabeled.encoders.encoder import Encoder


class TreeEncoder(Encoder):
    """``width`` units a node, which see the units of the node's two children alone.

    ``local`` [B, 2^depth - 1, width] are the units of all nodes above the leaves, from the root on,
    as `unlabeled.data.latent_tree` numbers them; ``pool`` is the root's. A unit is linear in
    ``relu`` of its inputs (2010.00578, section 5, official code).

    Args:
        spec: the tree's.
        width: units of a node.
        bias: whether units have one.
    """

    def __init__(self, spec: TreeSpec, *, width: int = 10, bias: bool = True) -> None:
        super().__init__()
        self.spec, self.dim = spec, width
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for level in reversed(range(spec.depth)):  # from above the leaves to the root
            inputs = 2 if level == spec.depth - 1 else 2 * width
            bound = 1 / math.sqrt(inputs)  # as torch's linear layers begin
            shape = (2**level, inputs, width)
            self.weights.append(nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
            if bias:
                shift = torch.empty(2**level, width).uniform_(-bound, bound)
                self.biases.append(nn.Parameter(shift))

    def local(self, x: Tensor) -> Tensor:
        """[B, 2^depth] -> [B, 2^depth - 1, width]."""
        below, levels = x[..., None], []
        for step, weight in enumerate(self.weights):
            inputs = below.unflatten(1, (len(weight), 2)).flatten(2).relu()
            below = torch.einsum("bni,nio->bno", inputs, weight)
            if self.biases:
                below = below + self.biases[step]
            levels.append(below)
        return torch.cat(levels[::-1], 1)

    def pool(self, local: Tensor) -> Tensor:
        """[B, width]: the root's units."""
        return local[:, 0]
