"""Evaluating Self-Supervised Pretraining Without Using Labels (2009.07724).

Models that differ in their augmentations are ordered without labels, by how well a linear layer on
frozen features tells rotations. SelfAugment searches a policy by the same means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any

from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.contrast_loss import ContrastLoss
from unlabeled.evaluators.pretext_probe import PretextProbe
from unlabeled.methods.image import moco_v2
from unlabeled.ops.ranks import rank_correlation
from unlabeled.policy_search import BASE
from unlabeled.recipe import Recipe, Study
from unlabeled.views.augment import Augment
from unlabeled.views.image import TwoViews
from unlabeled.views.mild import mild_augment
from unlabeled.views.policy import PolicyViews

# what `unlabeled.policy_search.search` found (minimax, seed 0, 5 of 100 policies) for MoCo v2 that
# was trained with BASE on four fifths of Fashion-MNIST, judged on 1,000 images of the last fifth
FOUND: Any = (
    (("shear_x", 0.55, 0.46), ("autocontrast", 0.84, 0.92)),
    (("equalize", 0.32, 0.87), ("brightness", 0.59, 0.36)),
    (("equalize", 0.95, 0.55), ("autocontrast", 0.08, 0.23)),
    (("sharpness", 0.48, 0.47), ("posterize", 0.17, 0.47)),
    (("autocontrast", 0.76, 0.91), ("brightness", 0.87, 0.05)),
    (("posterize", 0.88, 0.34), ("equalize", 0.76, 0.02)),
    (("sharpness", 0.09, 0.51), ("autocontrast", 0.24, 0.57)),
    (("sharpness", 0.35, 0.20), ("rotate", 0.00, 0.73)),
    (("translate_y", 0.17, 0.21), ("brightness", 0.76, 0.88)),
    (("posterize", 0.33, 0.36), ("posterize", 0.91, 0.64)),
    (("equalize", 0.07, 0.15), ("cutout", 0.87, 0.78)),
    (("brightness", 0.69, 0.78), ("brightness", 0.38, 0.44)),
    (("brightness", 0.50, 0.17), ("shear_y", 0.78, 0.91)),
    (("sharpness", 0.58, 0.85), ("shear_x", 0.14, 0.02)),
    (("sharpness", 0.50, 0.27), ("posterize", 0.31, 0.18)),
    (("solarize", 0.39, 0.85), ("cutout", 0.93, 0.52)),
    (("brightness", 0.00, 0.21), ("solarize", 0.50, 0.11)),
    (("translate_y", 0.27, 0.00), ("equalize", 0.84, 0.70)),
    (("translate_y", 0.04, 0.10), ("equalize", 0.84, 0.30)),
    (("translate_y", 0.23, 0.46), ("shear_x", 0.06, 0.99)),
    (("contrast", 0.70, 0.20), ("posterize", 0.77, 0.44)),
    (("equalize", 0.62, 0.81), ("cutout", 0.11, 0.32)),
    (("posterize", 0.91, 0.94), ("cutout", 0.60, 0.07)),
    (("equalize", 0.19, 0.03), ("cutout", 0.88, 0.00)),
    (("solarize", 0.42, 0.42), ("translate_y", 0.69, 0.20)),
)  # fmt: skip
WHOLE = (1.0, 1.0)
AUGMENTS: Mapping[str, Any] = {
    "crop": TwoViews(BASE),
    "default": TwoViews(mild_augment()),
    "strong": TwoViews(mild_augment(scale=(0.05, 1.0), solarize=0.2)),
    "jitter": TwoViews(Augment(scale=WHOLE, brightness=0.8, contrast=0.8)),
    "blur": TwoViews(Augment(scale=WHOLE, blur=1.0, blur_sigma=(0.1, 1.0))),
    "flip": TwoViews(Augment(scale=WHOLE)),
    "policy": PolicyViews(FOUND, BASE),
}
SHORTER = {"default_half": 0.5, "default_tenth": 0.1}
"""Shares of the epochs, with the default views."""


def report(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Hold the paper's claims against the linear probe."""
    found = {
        score: {name: mean(values) for name, values in branches.items()}
        for score, branches in scores.items()
    }
    linear = found["linear"]
    names = [name for name in linear if name != "raw"]

    def rho(score: str, sign: int = 1) -> float:
        return rank_correlation(
            [sign * found[score][name] for name in names], [linear[name] for name in names]
        ).rho

    rotation, jigsaw, contrast = rho("rotation"), rho("jigsaw_probe"), rho("contrast_loss", -1)
    said = "shown" if rotation >= 0.8 else "not shown"
    lines = [
        f"{said}: rotations on frozen features order {len(names)} models as the linear probe does "
        f"(Spearman {rotation:+.2f}, 0.8 or more asked)"
    ]
    others = max(abs(jigsaw), abs(contrast))
    said = "shown" if rotation > others else "not shown"
    lines.append(
        f"{said}: better than quarters in disorder ({jigsaw:+.2f}) and a low InfoNCE loss "
        f"({contrast:+.2f})"
    )
    first = max(names, key=lambda name: found["rotation"][name])
    best = max(names, key=lambda name: linear[name])
    gap = linear[best] - linear[first]
    said = "shown" if gap <= 2 else "not shown"
    lines.append(
        f"{said}: the model that rotations put first ({first}) is within 2 points of the best "
        f"({best}, {gap:.1f} ahead)"
    )
    for score, what in (("rotation", "rotations"), ("linear", "classes")):
        gain = found[score]["policy"] - found[score]["crop"]
        said = "shown" if gain > 0.5 else "not shown"
        lines.append(
            f"{said}: the policy found without labels helps {what} ({gain:+.1f} over crop)"
        )
    return lines


def _study(base: Recipe) -> Study:
    recipes = {name: replace(base, views=views) for name, views in AUGMENTS.items()}
    recipes |= {
        name: replace(recipes["default"], epochs=share * base.epochs)
        for name, share in SHORTER.items()
    }
    judges = (PretextProbe(), PretextProbe(task="jigsaw"), ContrastLoss(), "linear", "knn")
    return Study(recipes=recipes, evaluators=judges, report=report)


def paper() -> Study:
    """MoCo v2 on ImageNet, ResNet-50, 100 epochs (section 5), with the views of `AUGMENTS`."""
    return _study(replace(moco_v2.paper(), epochs=100))


def small() -> Study:
    """Fashion-MNIST, a narrow encoder, an epoch a recipe or less."""
    narrow = partial(small_resnet, widths=(8, 16, 64))
    return _study(replace(moco_v2.small(), encoder=narrow, epochs=1))
