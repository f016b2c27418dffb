"""SelfAugment: a policy of augmentations found without labels (2009.07724, section 4).

A network that was trained with the base augmentation alone is frozen, with a linear layer on it
that tells rotations. Policies are tried on images that neither has seen: a good one leaves
rotations readable (it keeps what an image shows) and makes InfoNCE large (positives are hard).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from unlabeled.artifacts import load, write_json
from unlabeled.data.order import spread
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.linear import Probe
from unlabeled.evaluators.pretext_probe import PROBE, rotated
from unlabeled.losses.contrastive import nt_xent
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import draw_views, raw_images
from unlabeled.views.policy import Policy, Step, apply_policy, decoded
from unlabeled.views.policy_ops import OPERATIONS

if TYPE_CHECKING:
    from jaxtyping import Float

Objective = Literal["minimax", "min_rotation", "min_contrast", "max_contrast"]
BASE = Augment(scale=(0.3, 1.0))
"""Crop and flip: the best single augmentation of the paper, milder for small images."""
TEMPERATURE = 0.2


@dataclass(frozen=True)
class Judged:
    """A policy and its losses on held-out images."""

    policy: Policy
    rotation: float
    contrast: float


def random_policy(generator: torch.Generator, *, subs: int, steps: int, colored: bool) -> Policy:
    """Draw operations, probabilities and levels uniformly."""
    names = [name for name, each in OPERATIONS.items() if colored or not each.colored]
    draw = torch.rand(subs, steps, 3, generator=generator)
    draw[..., 0] = (draw[..., 0] * len(names)).floor()
    return decoded(draw.tolist(), names)


def scored(found: Sequence[Judged], objective: Objective) -> Float[Tensor, " P"]:
    """The score of each policy, large for good ones.

    ``minimax``: ``L_icl / mean(L_icl) - L_rot / mean(L_rot)``, the means over all policies tried.
    """
    rotation = torch.tensor([each.rotation for each in found])
    contrast = torch.tensor([each.contrast for each in found])
    scores = {
        "minimax": contrast / contrast.mean() - rotation / rotation.mean(),
        "min_rotation": -rotation,
        "min_contrast": -contrast,
        "max_contrast": contrast,
    }
    if objective not in scores:
        raise ValueError(f"objective is {objective!r}: use one of {', '.join(scores)}")
    return scores[objective]


@torch.no_grad()
def judged(
    encoder: Encoder, probe: Probe, data: DataSource, policy: Policy, *, places: list[int],
    base: Augment, seed: int,
) -> Judged:  # fmt: skip
    """The losses of a frozen network on images under a policy.

    Rotation: the policy, then all four turns of the one image. InfoNCE: two views by the policy
    and the base, in batch, on the encoder's features.
    """
    spec = encoder.spec
    raw = data.collate(data.split("train").__getitems__(places))
    generator = SampleGenerator(seed, 0, raw["index"])
    whole = Augment(size=spec.size, scale=(1.0, 1.0), flip=0.0)
    images = apply_policy(raw_images(raw), policy, generator)
    (plain,) = draw_views({**raw, "views": [images]}, generator, (whole,), spec)["views"]
    turned, answer = rotated(plain)
    rotation = cross_entropy(probe.logits(encoder(turned).float()), answer)
    pair = []
    for _ in range(2):
        changed = apply_policy(raw_images(raw), policy, generator)
        pair += draw_views({**raw, "views": [changed]}, generator, (base.fit(spec),), spec)["views"]
    z1, z2 = (normalize(encoder(view).float(), dim=1) for view in pair)
    contrast = nt_xent(z1, z2, temperature=TEMPERATURE)
    return Judged(policy, float(rotation), float(contrast))


def search(
    model: Any,
    data: DataSource,
    *,
    tried: int = 200,
    kept: int = 10,
    subs: int = 5,
    steps: int = 2,
    rows: int = 2000,
    tests: int = 500,
    objective: Objective = "minimax",
    base: Augment = BASE,
    unseen: Sequence[int] | None = None,
    seed: int = 0,
    out: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Policy:
    """Search a policy for a model that was trained on (a part of) the data, without labels.

    The rotation layer is fitted on ``rows`` training images, policies are tried on ``tests``
    others; the sub-policies of the ``kept`` best of ``tried`` random policies are joined. The
    network should not have seen the images that judge: a run of 0.8 epochs leaves the last fifth of
    ``data.epoch_order(seed=..., epoch=0)`` unseen.

    Args:
        model: what `unlabeled.artifacts.load` takes.
        data: images.
        tried: policies.
        kept: of them.
        subs: sub-policies of a policy.
        steps: operations of a sub-policy.
        rows: images that the rotation layer is fitted on.
        tests: images that judge.
        objective: which losses count: see `scored`.
        base: crop and flip of InfoNCE's views.
        unseen: places in train of images that judge; by default others than the layer is fitted on.
        seed: of policies and views.
        out: where the policy goes, as JSON.
        say: told the progress.

    Raises:
        ValueError: fewer images than ``rows`` + ``tests``, an unknown objective.
    """
    encoder = load(model, data=data).encoder.eval()
    source = data.fit(encoder.spec)
    count = source.size("train")
    if count < rows + tests:
        raise ValueError(
            f"{data.name} has {count} training images: the search needs {rows + tests}; lower "
            "rows and tests"
        )
    if unseen is None:
        places = spread(count, rows + tests)
        probe_rows, judges = places[:rows], places[rows:]
    else:
        judges = sorted(unseen)[:tests]
        left = sorted(set(range(count)) - set(unseen))
        probe_rows = [left[place] for place in spread(len(left), rows)]
    probe = _rotation_probe(encoder, source, probe_rows)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(tried):
        policy = random_policy(
            generator, subs=subs, steps=steps, colored=encoder.spec.channels == 3
        )
        found.append(judged(encoder, probe, source, policy, places=judges, base=base, seed=seed))
        if say is not None and (number + 1) % 20 == 0:
            say(f"{number + 1} of {tried} policies")
    order = scored(found, objective).argsort(descending=True)[:kept]
    best: Policy = tuple(sub for place in order for sub in found[int(place)].policy)
    if out is not None:
        write_json(out, {"objective": objective, "seed": seed, "policy": best})
    return best


def read_policy(path: Path) -> Policy:
    """Read what `search` wrote."""
    stored = json.loads(path.read_text())["policy"]
    return tuple(tuple(Step(*step) for step in sub) for sub in stored)


@torch.no_grad()
def _rotation_probe(encoder: Encoder, data: DataSource, places: list[int]) -> Probe:
    prepare, x, y = data.prepare(encoder.spec), [], []
    for start in range(0, len(places), 250):
        batch = data.split("train").__getitems__(places[start : start + 250])
        images = prepare(data.collate(batch))
        turned, answer = rotated(images)
        x.append(encoder(turned).float())
        y.append(answer)
    return PROBE.fitted(torch.cat(x), torch.cat(y), classes=4)
