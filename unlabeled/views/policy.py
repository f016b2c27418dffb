"""Policies: sub-policies of two operations, one of which is drawn for each image (2009.07724)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import draw_views, raw_images, resized
from unlabeled.views.policy_ops import OPERATIONS
from unlabeled.views.resize import Images


class Step(NamedTuple):
    """An operation of `OPERATIONS`, its probability, and its level in [0, 1]."""

    operation: str
    probability: float
    level: float


SubPolicy = tuple[Step, ...]
Policy = tuple[SubPolicy, ...]


def check_policy(policy: Policy) -> None:
    """Raise a ValueError unless all operations, probabilities and levels are known ones."""
    if not policy:
        raise ValueError("the policy is empty: give one sub-policy or more")
    for sub in policy:
        for step in sub:
            name, *numbers = step
            if name not in OPERATIONS or not all(0 <= value <= 1 for value in numbers):
                raise ValueError(
                    f"{step} is no step: give an operation of {', '.join(OPERATIONS)}, a "
                    "probability and a level in [0, 1]"
                )


def apply_policy(images: Images, policy: Policy, generator: SampleGenerator) -> Images:
    """Apply one sub-policy, drawn for each image, step by step; images of one size go together.

    Args:
        images: [B, C, H, W], or B tensors [C, H_i, W_i]; uint8, or float32 in [0, 1].
        policy: at least one sub-policy; operations on colors leave gray images as they are.
        generator: one stream a sample.

    Returns:
        In the form of ``images``, float32.
    """
    longest = max(map(len, policy))
    chosen = generator.integers(high=len(policy))
    draws = generator.uniform(longest, 2)
    if isinstance(images, Tensor):
        return _applied(_unit(images), policy, chosen, draws)
    shapes: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(place)
    found: list[Tensor] = list(images)
    for places in shapes.values():
        stacked = _unit(torch.stack([images[place] for place in places]))
        rows = torch.tensor(places)
        done = _applied(stacked, policy, chosen[rows], draws[rows])
        for place, image in zip(places, done, strict=True):
            found[place] = image
    return found


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.clone()


def _applied(images: Tensor, policy: Policy, chosen: Tensor, draws: Tensor) -> Tensor:
    for place in range(draws.shape[1]):
        groups: dict[str, list[int]] = {}
        for number, sub in enumerate(policy):
            if place < len(sub):
                groups.setdefault(sub[place].operation, []).append(number)
        before = images
        images = images.clone()
        for name, numbers in groups.items():
            operation = OPERATIONS[name]
            if operation.colored and images.shape[1] != 3:
                continue
            steps = [policy[number][place] for number in numbers]
            table = torch.full((len(policy),), -1)
            table[numbers] = torch.arange(len(numbers))
            kind = table[chosen]
            chance = torch.tensor([step.probability for step in steps])[kind]
            rows = ((kind >= 0) & (draws[:, place, 0] < chance)).nonzero().flatten()
            if not len(rows):
                continue
            level = torch.tensor([step.level for step in steps])[kind[rows]]
            sign = torch.where(draws[rows, place, 1] < 0.5, 1.0, -1.0)
            images[rows] = operation.apply(before[rows], operation.magnitude(level, sign))
    return images.clamp_(0, 1)


@dataclass(frozen=True)
class PolicyViews:
    """Two views of each image: a policy, then the base augmentation, each drawn anew.

    Args:
        policy: sub-policies of steps (operation, probability, level).
        base: the crop and flip that follow.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: an unknown operation, or a probability or level outside [0, 1].
    """

    policy: Policy
    base: Augment
    _: KW_ONLY
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        steps = tuple(tuple(Step(*step) for step in sub) for sub in self.policy)
        object.__setattr__(self, "policy", steps)
        check_policy(self.policy)

    def fit(self, spec: ImageSpec) -> PolicyViews:
        """Return a copy whose size follows the spec where it is None."""
        base = self.base.fit(spec)
        return replace(self, base=base, spec=resized(spec, base))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, S, S]."""
        images = raw_images(batch)
        views: list[Tensor] = []
        for _ in range(2):
            changed = apply_policy(images, self.policy, generator)
            one: Batch = {**batch, "views": [changed]}
            views += draw_views(one, generator, (self.base,), self.spec)["views"]
        found: Batch = {**batch, "views": views}
        return found


def decoded(numbers: Sequence[Sequence[Sequence[float]]], operations: Sequence[str]) -> Policy:
    """Triples (place of the operation, probability, level) -> a policy of named steps."""
    return tuple(
        tuple(Step(operations[int(place)], chance, level) for place, chance, level in sub)
        for sub in numbers
    )
