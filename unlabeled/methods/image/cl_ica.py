"""CL-ICA: Contrastive Learning Inverts the Data Generating Process (2102.08850)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.factors import Box, Factors, FactorSpec, Sphere
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.identifiability import Identifiability
from unlabeled.losses.similarities import info_nce_of
from unlabeled.method import Batch, Method
from unlabeled.ops.gather import gather
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.views.factors import (
    FactorPairs,
    laplace_in_box,
    normal_in_box,
    von_mises_fisher,
)

Similarity = Callable[[Tensor, Tensor], Tensor]


def inner_product(one: Tensor, other: Tensor) -> Tensor:
    """[..., A, D], [..., K, D] -> [..., A, K]: ``a.b``; matches von Mises-Fisher positives."""
    return one @ other.mT


def minus_distance(one: Tensor, other: Tensor, *, p: float) -> Tensor:
    """[..., A, D], [..., K, D] -> [..., A, K]: ``-|a - b|_p^p``, the power and not the norm.

    Matches Laplace (p = 1) and normal (p = 2) positives.
    """
    exact = "donot_use_mm_for_euclid_dist"
    return -torch.cdist(one.contiguous(), other.contiguous(), p=p, compute_mode=exact).pow(p)


@final
class ClIca(Method):
    """InfoNCE whose similarity is that of the conditional from which positives are drawn.

    ``-log exp(s(f, f') / t) / (exp(s(f, f') / t) + sum_j exp(s(f, f_j) / t))`` with f = f(g(z)),
    f' of its positive and j over the batch's first views, the anchor's own among them (section 3;
    official code). At the minimum f(g(z)) is z but for an orthogonal map (theorem 2) or, for
    p other than 2 in a box, an order and signs (theorem 5).

    Args:
        encoder: f, whose outputs lie in the space of z.
        similarity: s.
        temperature: t.
    """

    def __init__(
        self, encoder: Encoder, *, similarity: Similarity = inner_product, temperature: float = 1.0
    ) -> None:
        super().__init__(encoder)
        self.similarity, self.temperature = similarity, temperature

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Each sample with its positive, against all samples of all ranks."""
        anchors, partners = self.encoder(torch.cat(batch["views"])).chunk(2)
        with autocast_off(anchors):
            anchors, partners = upcast(anchors), upcast(partners)
            positives = self.similarity(anchors[:, None], partners[:, None]).flatten()
            negatives = self.similarity(anchors, gather(anchors))
        return {"info_nce": info_nce_of(positives, negatives, temperature=self.temperature)}


class OnSphere(nn.Module):
    """Unit vectors."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim] -> [B, dim]."""
        return F.normalize(x, dim=1)


class InBox(nn.Module):
    """``bound sigmoid(x)``: a box whose sides are learned, from 1 on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim] -> [B, dim]."""
        return self.bound * x.sigmoid()


class FactorEncoder(Encoder):
    """A network from vectors to factors."""

    def __init__(self, spec: FactorSpec, net: nn.Module) -> None:
        super().__init__()
        self.spec, self.dim, self.net = spec, spec.dim, net

    def local(self, x: Tensor) -> Tensor:
        """[B, 1, dim]."""
        return self.net(x)[:, None]

    def pool(self, local: Tensor) -> Tensor:
        """[B, dim]."""
        return local.squeeze(1)


def factor_encoder(
    spec: FactorSpec,
    *,
    output: Callable[[int], nn.Module] = OnSphere,
    widths: tuple[int, ...] = (10, 50, 50, 50, 50, 10),
) -> FactorEncoder:
    """Build f: hidden layers ``widths`` times as wide as z with leaky ReLUs, then the output space.

    Source: section A.2.1 and the official code.
    """
    sizes = (spec.dim, *(width * spec.dim for width in widths))
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU()]
    layers += [nn.Linear(sizes[-1], spec.dim), output(spec.dim)]
    return FactorEncoder(spec, nn.Sequential(*layers))


def paper() -> Recipe:
    """Ten factors on the sphere, von Mises-Fisher positives, three layers (section 4.1, table 1).

    Adam at 1e-4, 300,000 steps at batch 6144, temperature 1 for concentration 1.
    """
    return Recipe(
        method=partial(ClIca),
        encoder=partial(factor_encoder),
        data=Factors(dim=10, space=Sphere(), layers=3, samples=614_400),
        views=FactorPairs(partial(von_mises_fisher, concentration=1.0)),
        optim=Optim(kind=partial(torch.optim.Adam), lr=constant(1e-4), lr_per=None),
        epochs=3000,
        batch_size=6144,
        evaluate=(Identifiability(),),
    )


def small() -> Recipe:
    """Five factors, two layers, 4,000 steps: minutes on two CPU cores, offline."""
    return Recipe(
        method=partial(ClIca, temperature=0.1),
        encoder=partial(factor_encoder),
        data=Factors(dim=5, space=Sphere(), layers=2, samples=51_200),
        views=FactorPairs(partial(von_mises_fisher, concentration=10.0)),
        optim=Optim(kind=partial(torch.optim.Adam), lr=constant(1e-3), lr_per=None),
        epochs=40,
        batch_size=512,
        evaluate=(Identifiability(),),
    )


def small_laplace() -> Recipe:
    """Factors in a box with Laplace positives and p = 1: found one by one (theorem 5)."""
    return replace(
        small(),
        method=partial(ClIca, similarity=partial(minus_distance, p=1.0), temperature=0.05),
        encoder=partial(factor_encoder, output=InBox),
        data=Factors(dim=5, space=Box(), layers=2, samples=51_200),
        views=FactorPairs(partial(laplace_in_box, scale=0.05)),
    )


def small_normal() -> Recipe:
    """The same with normal positives and p = 2, for which the theory leaves a rotation open."""
    return replace(
        small_laplace(),
        method=partial(ClIca, similarity=partial(minus_distance, p=2.0), temperature=0.005),
        views=FactorPairs(partial(normal_in_box, scale=0.05)),
    )
