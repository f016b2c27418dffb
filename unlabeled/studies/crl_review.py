"""Contrastive Representation Learning: A Framework and Review (2010.05113).

The review takes contrastive methods apart into what counts as similar, encoders, heads and losses.
Here one part at a time is exchanged: the loss, what counts as similar, which negatives are met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any, final

import torch
from torch import Tensor

from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.losses.information import donsker_varadhan, jensen_shannon, nwj
from unlabeled.losses.metric import (
    lifted_structure,
    n_pair,
    pair_margin,
    semi_hard_triplet,
    triplet,
)
from unlabeled.losses.multi_positive import multi_positive_nt_xent
from unlabeled.losses.nce import nce
from unlabeled.losses.similarities import info_nce_of
from unlabeled.method import Batch, Method
from unlabeled.methods.image import moco_v2, simclr
from unlabeled.nn.heads import mlp
from unlabeled.ops.gather import gather
from unlabeled.ops.mining import percentile_band
from unlabeled.ops.pairs import in_batch
from unlabeled.recipe import Recipe, Study
from unlabeled.views.image import TwoViews
from unlabeled.views.mild import mild_augment

Loss = Callable[[Tensor, Tensor], Tensor]
"""(cosines with the positives [A], with the negatives [A, N]) -> scalar."""

TEMPERATURE = 0.2


@final
class Contrast(Method):
    """Two views, a head, and any loss on the cosines of a batch's pairs.

    Args:
        encoder: the network that is kept.
        contrast: the loss.
        dim: width of the head's output; its hidden layer is twice as wide.
    """

    def __init__(self, encoder: Encoder, *, contrast: Loss, dim: int = 64) -> None:
        super().__init__(encoder)
        self.projector = mlp(encoder.dim, 2 * dim, dim)
        self.contrast = contrast

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of both views of all samples as anchors."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch["views"])
        return {"contrast": self.contrast(*in_batch(z1, z2))}


@final
class LabelContrast(Method):
    """Contrast in which all samples of a class are similar: what labels would add.

    Args:
        encoder: the network that is kept.
        dim: width of the head's output; its hidden layer is twice as wide.
    """

    def __init__(self, encoder: Encoder, *, dim: int = 64) -> None:
        super().__init__(encoder)
        self.projector = mlp(encoder.dim, 2 * dim, dim)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent averaged over the views of the anchor's class."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch["views"])
        label = batch["label"]
        same = (label[:, None] == gather(label)).to(z1.dtype).repeat(2, 1)
        return {"contrast": multi_positive_nt_xent(z1, z2, same, temperature=TEMPERATURE)}


def distance(cosine: Tensor) -> Tensor:
    """Distance of unit vectors; kept off 0, where its gradient is infinite."""
    return (2 - 2 * cosine).clamp_min(1e-6).sqrt()


def of_distances(
    positives: Tensor, negatives: Tensor, *, loss: Callable[..., Tensor], margin: float
) -> Tensor:
    """A metric loss on the distances of unit vectors."""
    return loss(distance(positives), distance(negatives), margin=margin)


def of_scores(positives: Tensor, negatives: Tensor, *, loss: Loss) -> Tensor:
    """A bound on information with ``cos / t`` as its critic."""
    return loss(positives / TEMPERATURE, negatives / TEMPERATURE)


def in_batch_nce(positives: Tensor, negatives: Tensor) -> Tensor:
    """NCE with the batch's negatives as noise and the partition estimated from them."""
    scores = torch.cat([positives[:, None], negatives], 1) / TEMPERATURE
    samples = scores.shape[1]
    partition = samples * scores[:, 1:].detach().exp().mean()
    return nce(scores, samples=samples, partition=partition)


def hardest_share(positives: Tensor, negatives: Tensor, *, percent: float) -> Tensor:
    """InfoNCE against the hardest negatives of each anchor only."""
    kept = percentile_band(negatives, low=0, high=percent)
    left = negatives.masked_fill(~kept, -torch.inf)
    return info_nce_of(positives, left, temperature=TEMPERATURE)


INFO_NCE = partial(info_nce_of, temperature=TEMPERATURE)
SOFTMAX = ("info_nce", "nce")
MARGINS = ("pair_margin", "triplet", "lifted_structure", "semi_hard_triplet")

LOSSES: Mapping[str, Any] = {
    "info_nce": INFO_NCE,
    "n_pair": partial(n_pair),
    "nce": in_batch_nce,
    "jensen_shannon": partial(of_scores, loss=jensen_shannon),
    "donsker_varadhan": partial(of_scores, loss=donsker_varadhan),
    "nwj": partial(of_scores, loss=nwj),
    "pair_margin": partial(of_distances, loss=pair_margin, margin=1.0),
    "triplet": partial(of_distances, loss=triplet, margin=0.2),
    "lifted_structure": partial(of_distances, loss=lifted_structure, margin=1.0),
    # the same losses, with other negatives
    "semi_hard_triplet": partial(of_distances, loss=semi_hard_triplet, margin=0.2),
    "hardest_20": partial(hardest_share, percent=20.0),
}


def report(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Hold the review's qualitative claims against the linear probe."""
    linear = {name: mean(values) for name, values in scores["linear"].items()}
    trained = {name: value for name, value in linear.items() if name not in ("random", "raw")}
    lines = [
        f"{sum(value > linear['random'] for value in trained.values())} of {len(trained)} recipes "
        f"are above the random encoder ({linear['random']:.1f})"
    ]
    soft = max(linear[name] for name in SOFTMAX)
    margin_name = max(MARGINS, key=lambda name: linear[name])
    gap = soft - linear[margin_name]
    said = "shown" if gap > 1 else "not shown"
    lines.append(
        f"{said}: softmax losses learn faster than margin losses (linear, best {soft:.1f} against "
        f"{margin_name} {linear[margin_name]:.1f})"
    )
    gap = linear["semi_hard_triplet"] - linear["triplet"]
    said = "shown" if gap > 0.5 else "not shown"
    lines.append(f"{said}: margin losses need mining (semi-hard over all negatives {gap:+.1f})")
    gap = linear["info_nce"] - linear["n_pair"]
    said = "shown" if gap > 0.5 else "not shown"
    lines.append(f"{said}: the softmax needs its temperature (t = {TEMPERATURE} over 1 {gap:+.1f})")
    return lines


def _study(base: Recipe, *, queue: Recipe, context: Any, crops: Any) -> Study:
    contrast = replace(base, method=partial(Contrast, contrast=INFO_NCE))
    recipes = {
        name: replace(base, method=partial(Contrast, contrast=loss))
        for name, loss in LOSSES.items()
    }
    recipes |= {
        "queue": queue,
        "similar_context": replace(contrast, views=context),
        "similar_crops": replace(contrast, views=crops),
        "similar_classes": replace(base, method=partial(LabelContrast)),
    }
    return Study(recipes=recipes, evaluators=("knn", "linear", "effective_rank"), report=report)


def paper() -> Study:
    """The same exchange of parts at the size of SimCLR's own setting; the review trains nothing."""
    base = simclr.paper()
    full = base.views.first
    crops = replace(full, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gray=0.0, blur=0.0)
    return _study(
        base,
        queue=moco_v2.paper(),
        context=TwoViews(full, replace(full, scale=(0.05, 0.14))),
        crops=TwoViews(crops),
    )


def small() -> Study:
    """Fashion-MNIST, a narrow encoder, one epoch a recipe."""
    narrow = partial(small_resnet, widths=(8, 16, 64))
    base = replace(simclr.small(), encoder=narrow, epochs=1)
    full = mild_augment()
    crops = replace(full, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gray=0.0, blur=0.0)
    return _study(
        base,
        queue=replace(moco_v2.small(), encoder=narrow, epochs=1),
        context=TwoViews(full, replace(full, scale=(0.05, 0.25))),
        crops=TwoViews(crops),
    )
