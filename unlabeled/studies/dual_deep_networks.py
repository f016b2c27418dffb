"""Understanding Self-supervised Learning with Dual Deep Networks (2010.00578).

The gradient of a contrastive loss is a covariance operator times the weights: what varies over
samples and survives augmentation grows. On a tree of latents hidden units then find the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any, final

import torch
from torch import Tensor, nn

from unlabeled.data.latent_tree import LatentTree
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.tree import TreeEncoder
from unlabeled.evaluators.tree import CovarianceProbe, TreeCorrelation
from unlabeled.losses.distillation import regression
from unlabeled.losses.pairwise import difference, distance_nce, exact_covariance, soft_triplet
from unlabeled.method import Batch, Method
from unlabeled.methods.image import byol, simclr
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.ops.pairs import in_batch
from unlabeled.recipe import Optim, Recipe, Study
from unlabeled.schedule import constant, cosine
from unlabeled.views.tree import TreePairs

Loss = Callable[[Tensor, Tensor], Tensor]
"""(r+ [A], r- [A, N]) -> scalar, r squared distances halved."""

IMAGE_TEMPERATURE = 0.5
TREE_TEMPERATURE = 0.1


@final
class PairwiseContrast(Method):
    """Two views and any loss on the squared distances of a batch's pairs of unit vectors.

    Args:
        encoder: the network that is kept.
        contrast: the loss.
        hidden: width of the projector's hidden layers; 0 for no projector.
        dim: width of its output.
    """

    def __init__(
        self, encoder: Encoder, *, contrast: Loss, hidden: int = 0, dim: int = 128
    ) -> None:
        super().__init__(encoder)
        self.projector: nn.Module = nn.Identity()
        self.lowest_rank = 0.0  # the views of a tree share one bit, and one direction says it
        if hidden:
            widths = (encoder.dim, hidden, hidden, dim)
            self.projector = mlp(*widths, hidden_norm=False, hidden_bias=True)
            self.lowest_rank = Method.lowest_rank
        self.contrast = contrast

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of both views of all samples as anchors: ``r = 1 - cos``."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch["views"])
        positives, negatives = in_batch(z1, z2)
        return {"contrast": self.contrast(1 - positives, 1 - negatives)}


class Center(nn.Module):
    """``x - mean(x)`` over the batch: the part of batch norm that is no scale."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, d] -> [B, d]."""
        return x - x.mean(0)


@final
class ByolHeads(Method):
    """BYOL whose projector and predictor have batch norm, only its centering, or nothing.

    Section 4: batch norm makes the gradients zero-mean, an implicit contrast; without it the heads
    have nothing that keeps them from a collapse.

    Args:
        encoder: the network that is kept.
        norm: "batch", "center" or "none".
        hidden: width of the heads' hidden layers.
        dim: of their output.
        momentum: of the teacher, at first; it rises to 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        norm: str,
        hidden: int = 512,
        dim: int = 128,
        momentum: float = 0.98,
    ) -> None:
        super().__init__(encoder)
        self.projector = _head(encoder.dim, hidden, dim, norm)
        self.predictor = _head(dim, hidden, dim, norm)
        self.teacher = Ema(self.student)
        self.momentum = momentum

    @property
    def student(self) -> nn.Sequential:
        """The part of the online network that the target is the moving average of."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Squared distance of unit vectors, summed over both directions."""
        x1, x2 = batch["views"]
        p1, p2 = self.predictor(self.student(x1)), self.predictor(self.student(x2))
        z1, z2 = self.teacher(x1), self.teacher(x2)
        return {"regression": regression(p1, z2) + regression(p2, z1)}

    def after_step(self) -> None:
        """Move the target."""
        self.teacher.update(self.student, momentum=cosine(self.momentum, 1.0)(self.clock))


def _head(inputs: int, hidden: int, dim: int, norm: str) -> nn.Sequential:
    norms: dict[str, Callable[[], nn.Module]] = {
        "batch": partial(nn.BatchNorm1d, hidden),
        "center": Center,
        "none": nn.Identity,
    }
    if norm not in norms:
        raise ValueError(f"norm is {norm!r}: use one of {', '.join(norms)}")
    return nn.Sequential(
        nn.Linear(inputs, hidden), norms[norm](), nn.ReLU(), nn.Linear(hidden, dim, bias=False)
    )


TREE_LOSSES: Mapping[str, Any] = {
    "nce": partial(distance_nce, temperature=TREE_TEMPERATURE),
    "difference": partial(difference),
    "soft_triplet": partial(soft_triplet, temperature=TREE_TEMPERATURE),
    "exact_covariance": partial(exact_covariance, temperature=TREE_TEMPERATURE),
}
IMAGE_LOSSES: Mapping[str, Any] = {
    "image_nce": partial(distance_nce, temperature=IMAGE_TEMPERATURE),
    "image_exact_covariance": partial(exact_covariance, temperature=IMAGE_TEMPERATURE),
}
NORMS = ("batch", "center", "none")
WIDE, NARROW = 10, 2


def report(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Hold the paper's claims against the correlations and the accuracies."""
    root = {name: mean(values) for name, values in scores["tree"].items()}
    knn = {name: mean(values) for name, values in scores["knn"].items()}
    before = next(value for name, value in root.items() if name.startswith("random"))
    narrow_before = root.get(f"random (nce_{NARROW})", before)
    wide = root[f"nce_{WIDE}"]
    said = "shown" if wide - before >= 0.03 and wide >= 0.9 else "not shown"
    lines = [
        f"{said}: units of the root find its latent (best correlation {before:.2f} before, "
        f"{wide:.2f} after; 0.9 and a gain of 0.03 asked)"
    ]
    grown = [name for name in TREE_LOSSES if root[f"{name}_{WIDE}"] > before + 0.03]
    lines.append(
        f"{len(grown)} of {len(TREE_LOSSES)} losses of the family raise it by 0.03 or more: "
        f"{', '.join(grown) or 'none'}"
    )
    narrow = root[f"nce_{NARROW}"]
    said = "shown" if wide - narrow > 0.02 else "not shown"
    lines.append(
        f"{said}: more units than needed help ({WIDE} a node {wide:.2f}, {NARROW} a node "
        f"{narrow:.2f}, which had {narrow_before:.2f} before)"
    )
    gap = knn["image_nce"] - knn["image_exact_covariance"]
    said = "shown" if abs(gap) <= 3 else "not shown"
    lines.append(
        f"{said}: the exact covariance operator learns as well as InfoNCE (kNN within 3 points, "
        f"{-gap:+.1f})"
    )
    fall = knn["byol_batch"] - knn["byol_none"]
    said = "shown" if fall > 3 else "not shown"
    lines.append(f"{said}: without batch norm in its heads BYOL learns less ({-fall:+.1f} kNN)")
    between = knn["byol_center"] - knn["byol_none"]
    said = "shown" if between > 1 else "not shown"
    lines.append(f"{said}: centering alone already helps ({between:+.1f} kNN over none)")
    return lines


def _tree(loss: Loss, *, width: int, depth: int, steps: int) -> Recipe:
    return Recipe(
        method=partial(PairwiseContrast, contrast=loss),
        encoder=partial(TreeEncoder, width=width),
        data=LatentTree(depth=depth, lower=0.8),
        views=TreePairs(),
        optim=Optim(kind=partial(torch.optim.SGD), lr=constant(0.1), lr_per=None),
        epochs=steps * 128 / 12_800,
        batch_size=128,
    )


def _study(trees: Mapping[str, Recipe], images: Mapping[str, Recipe]) -> Study:
    return Study(
        recipes={**trees, **images},
        evaluators=(TreeCorrelation(), CovarianceProbe(views=TreePairs()), "knn"),
        report=report,
    )


def _trees(*, depth: int, steps: int) -> dict[str, Recipe]:
    made = {
        f"{name}_{WIDE}": _tree(loss, width=WIDE, depth=depth, steps=steps)
        for name, loss in TREE_LOSSES.items()
    }
    made[f"nce_{NARROW}"] = _tree(TREE_LOSSES["nce"], width=NARROW, depth=depth, steps=steps)
    return made


def _images(contrastive: Recipe, predictive: Recipe, *, hidden: int) -> dict[str, Recipe]:
    made = {
        name: replace(contrastive, method=partial(PairwiseContrast, contrast=loss, hidden=hidden))
        for name, loss in IMAGE_LOSSES.items()
    }
    made |= {
        f"byol_{norm}": replace(predictive, method=partial(ByolHeads, norm=norm)) for norm in NORMS
    }
    return made


def paper() -> Study:
    """Depth 5 for 50 epochs of 64,000 samples; ResNet-18 on STL-10, Adam at 1e-3 (appendix)."""
    from unlabeled.data.torchvision_data import Torchvision
    from unlabeled.encoders.image import torchvision_encoder

    adam = Optim(kind=partial(torch.optim.Adam), lr=constant(1e-3), lr_per=None)

    def on_stl(recipe: Recipe) -> Recipe:
        return replace(
            recipe,
            encoder=partial(torchvision_encoder, name="resnet18"),
            data=Torchvision("STL10"),
            optim=adam,
            epochs=100,
            batch_size=128,
        )

    return _study(
        _trees(depth=5, steps=25_000),
        _images(on_stl(simclr.paper()), on_stl(byol.paper()), hidden=512),
    )


def small() -> Study:
    """Depth 4 for 2,000 steps; Fashion-MNIST with a narrow encoder for one epoch."""
    narrow = partial(small_resnet, widths=(8, 16, 64))
    contrastive, predictive = (
        replace(module.small(), encoder=narrow, epochs=1) for module in (simclr, byol)
    )
    return _study(_trees(depth=4, steps=2000), _images(contrastive, predictive, hidden=128))
