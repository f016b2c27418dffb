"""ROS: On the Effectiveness of Image Rotation for Open Set Domain Adaptation (2007.12360)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.labeled_part import LabeledPart
from unlabeled.data.open_set import OfficeHome, OpenSet
from unlabeled.data.shifted import Shifted
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.encoders.rotation import RotationEncoder, RotationHead, rotation_encoder
from unlabeled.evaluators.open_set import OpenSetScores
from unlabeled.method import Batch, Method, Sweep
from unlabeled.nn.heads import mlp
from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast
from unlabeled.ops.rotate import quarter_turns
from unlabeled.recipe import Optim, Recipe, Rule
from unlabeled.schedule import constant, inverse_decay
from unlabeled.trained import Trained
from unlabeled.views.augment import Augment
from unlabeled.views.relative_rotation import RelativeRotation


def classifier(dim: int, outputs: int) -> nn.Sequential:
    """[B, dim] -> [B, outputs]: two linear layers, 256 between, without a nonlinearity."""
    return nn.Sequential(mlp(dim, 256), mlp(256, outputs))


class Normality(NamedTuple):
    """N(x), the largest class's probability of the right turn, and the mean entropy; [B] each."""

    normality: Tensor
    entropy: Tensor


def normality(probability: Tensor) -> Normality:
    """Score of the four turns of images: ``[4, B, 4K]`` probabilities over class and turn.

    ``N(x) = max_k 1/4 sum_q p_q[4k + q]`` and ``H(x) = 1/4 sum_q H(p_q)`` (section 3.1, eq. 4, 5).
    """
    turns, _, outputs = probability.shape
    right = torch.stack(
        [probability[q, :, q::4] for q in range(turns)]  # [B, K]: class k, turned by q
    ).mean(0)
    entropy = -(probability * probability.clamp_min(1e-12).log()).sum(2).mean(0)
    assert right.shape[1] == outputs // 4
    return Normality(right.amax(1), entropy)


@final
class Separation(Method):
    """Stage I: on the source, classes, and turns relative to an upright view, class by class.

    ``L = CE(C1(E(x)), y) + w_r CE(R1([E(x), E(rot_q x)]), 4 y + q) + w_c 1/2 |v - gamma_z|^2`` with
    v the hidden activations of R1 and gamma_z a learned center of each class and turn, which moves
    at the full rate (section 3.1). The target passes without a loss, for its batch statistics.

    Args:
        encoder: E and R1.
        rotation: w_r.
        center: w_c.
    """

    encoder: RotationEncoder

    def __init__(
        self, encoder: RotationEncoder, *, rotation: float = 1.0, center: float = 1e-3
    ) -> None:
        super().__init__(encoder)
        self.classifier = classifier(encoder.dim, encoder.classes)
        hidden = encoder.rotation.last.in_features
        self.centers = nn.Parameter(torch.randn(4 * encoder.classes, hidden))
        self.rotation, self.center = rotation, center

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Reads the source's labels."""
        anchor, turned = batch["source_views"]
        label, angle = batch["source_label"], batch["source_angle"]
        with torch.no_grad():
            self.encoder.trunk(batch["views"][0])
        one, other = self.encoder.trunk(torch.cat([anchor, turned])).chunk(2)
        logits, hidden = self.encoder.rotation(one, other)
        z = 4 * label + angle
        near = (upcast(hidden) - self.centers[z].detach()).square().sum(1).mean() / 2
        moved = (upcast(hidden).detach() - self.centers[z]).square().sum(1).mean() / 2
        return {
            "class": F.cross_entropy(upcast(self.classifier(one)), label),
            "rotation": self.rotation * F.cross_entropy(upcast(logits), z),
            # the value counts once, and the centers get the whole gradient
            "center": self.center * near + moved - moved.detach(),
        }


@final
class ROS(Method):
    """Stage II: the target is split into known and unknown, and adapted on what is known.

    Before the first step all target images are scored by stage I: ``eta = max(N, 1 - H~)`` with H~
    the entropy scaled to [0, 1] over the target; known are those above the mean (section 3.1). Then
    ``L = CE(C2) + w_r CE(R2) + w_e H(C2)``: classes on the source, and "unknown" on the rejected
    part of the target, weighted for its number; turns and entropy on the known part (section 3.2).

    Args:
        encoder: E, which goes on from stage I's.
        first: the run of stage I; None keeps random weights.
        first_encoder: builds its network.
        samples: of the target; None takes the data's.
        labeled: source images of known classes.
        hidden: width of R2's hidden layer.
        rotation: w_r.
        entropy: w_e.
        unknown: w_unk of the class "unknown".
        frozen: names of the encoder's parameters, by their beginning, that do not learn.
    """

    known: Tensor
    scored: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        first: Trained | None,
        first_encoder: Callable[[Any], Encoder],
        samples: int | None,
        labeled: int,
        hidden: int = 256,
        rotation: float = 3.0,
        entropy: float = 0.1,
        unknown: float = 2.0,
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__(encoder)
        if samples is None:
            raise ValueError("samples is None: a recipe fills it in from its data")
        meta = next(encoder.parameters()).is_meta
        scorer = first_encoder(encoder.spec)
        assert isinstance(scorer, RotationEncoder)
        self.classes = scorer.classes
        self.classifier = classifier(encoder.dim, self.classes + 1)
        self.relative = RotationHead(encoder.dim, hidden=hidden, outputs=4)
        self.register_buffer("known", torch.arange(samples) % 2 == 0)
        self.register_buffer("scored", torch.zeros((), dtype=torch.bool))
        if first is not None and not meta:
            scorer.load_state_dict(first.weights())
            encoder.load_state_dict(scorer.trunk.state_dict())
        # no part of the method: it is needed once, before the first step
        self._scorer = [scorer.requires_grad_(False).eval()]
        self.labeled, self.rotation = labeled, rotation
        self.entropy, self.unknown = entropy, unknown
        for name, value in encoder.named_parameters():
            if frozen and name.startswith(frozen):
                value.requires_grad_(False)

    def before_step(self, sweep: Sweep) -> None:
        """Split the target, once."""
        if bool(self.scored):
            return
        scorer = self._scorer[0].to(self.known.device)

        def score(x: Tensor) -> Tensor:
            x = x.to(next(scorer.parameters()))
            anchor = scorer.trunk(x)
            turned = [
                scorer.trunk(quarter_turns(x, torch.full((len(x),), q, device=x.device)))
                for q in range(4)
            ]
            logits = [scorer.rotation(anchor, each)[0].float() for each in turned]
            return torch.stack(normality(torch.stack(logits).softmax(2)), 1)

        found = sweep(score)
        self.known[: len(found)] = above_mean(found[:, 0], found[:, 1])
        self.scored.fill_(True)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Reads the source's labels, and of the target none."""
        anchor, turned = batch["views"]
        (source, _), known = batch["source_views"], self.known[batch["index"]]
        features = self.encoder(torch.cat([source, anchor, turned]))
        labeled, one, other = features.chunk(3)
        logits, target_logits = (upcast(self.classifier(part)) for part in (labeled, one))
        rejected = (~self.known).sum().clamp_min(1)
        weight = self.unknown * self.labeled / (rejected * self.classes)
        nothing = torch.full_like(batch["source_label"], self.classes)
        own = F.cross_entropy(logits, batch["source_label"], reduction="none")
        away = F.cross_entropy(target_logits, nothing, reduction="none")
        inside = known.to(own.dtype)
        shares = torch.stack([torch.ones_like(own), weight * (1 - inside)])
        turns = F.cross_entropy(
            upcast(self.relative(one, other)[0]), batch["angle"][0], reduction="none"
        )
        probability = target_logits.softmax(1)
        doubt = -(probability * target_logits.log_softmax(1)).sum(1)
        return {
            "class": _mean(torch.stack([own, away]), shares),
            "rotation": self.rotation * _mean(turns, inside),
            "entropy": self.entropy * _mean(doubt, inside),
        }

    def classify(self, x: Tensor) -> Tensor:
        """[B, K + 1]: logits; the last is unknown."""
        return self.classifier(self.encoder(x))

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``classify``, besides embeddings."""
        return {"embed": self.encoder, "classify": self.classify}


def above_mean(normality: Tensor, entropy: Tensor) -> Tensor:
    """[N] bool: ``max(N, 1 - (H - min H) / (max H - min H))`` above its mean over the target."""
    low, high = entropy.min(), entropy.max()
    certain = 1 - (entropy - low) / (high - low).clamp_min(1e-12)
    eta = torch.maximum(normality, certain)
    return eta > eta.mean()


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over all ranks, as each rank's part of their average."""
    return world_size() * (value * weight).sum() / all_sum(weight.sum()).clamp_min(1e-12)


def _sgd(*, encoder: float) -> Optim:
    return Optim(
        kind=partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        lr=inverse_decay(3e-3),
        lr_per=None,
        weight_decay=constant(5e-4),
        rules=(Rule(name="encoder.*", lr_scale=encoder),),
    )


OFFICE = OpenSet(OfficeHome("Product"), OfficeHome("Art"), known=tuple(range(25)))
FROZEN = ("net.conv1", "net.bn1", "net.layer1", "net.layer2", "net.layer3")
CROPS = Augment(size=224, scale=(0.76, 0.77), ratio=(1.0, 1.0), flip=0.0)


def separation_paper() -> Recipe:
    """Stage I on Office-Home, 150 epochs at batch 32 (official scripts).

    ResNet-50, to be given ImageNet's weights by ``--init``; SGD with Nesterov momentum at 0.003,
    a tenth of it for the encoder, falling as (1 + 10 p)^-0.75.
    """
    return Recipe(
        method=partial(Separation),
        encoder=partial(
            rotation_encoder, base=partial(torchvision_encoder, name="resnet50"), classes=25
        ),
        data=OFFICE,
        views=RelativeRotation(CROPS),
        optim=_sgd(encoder=0.1),
        epochs=150,
        batch_size=32,
    )


def paper() -> Recipe:
    """Stage II on Office-Home, 45 epochs; only layer4 of the encoder learns."""
    return Recipe(
        method=partial(
            ROS,
            first=Trained(recipe="ros:separation_paper"),
            first_encoder=separation_paper().encoder,
            samples=None,
            labeled=1089,
            frozen=FROZEN,
        ),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=OFFICE,
        views=RelativeRotation(CROPS),
        optim=_sgd(encoder=0.1),
        epochs=45,
        batch_size=32,
        evaluate=(OpenSetScores(),),
    )


CLOTHES = OpenSet(
    LabeledPart(Shifted(FashionMnist()), share=0.1),
    LabeledPart(FashionMnist(), share=0.1),
    known=(0, 1, 5, 7, 8),
)
MILD = Augment(scale=(0.7, 1.0), flip=0.0)
ADAM = Optim(
    kind=torch.optim.AdamW, lr=inverse_decay(1e-3), lr_per=None, weight_decay=constant(5e-4)
)


def separation() -> Recipe:
    """Stage I of `small`: 6,000 clothes of either domain, five kinds of ten known."""
    return Recipe(
        method=partial(Separation),
        encoder=partial(rotation_encoder, base=partial(small_resnet), classes=5, hidden=64),
        data=CLOTHES,
        views=RelativeRotation(MILD),
        optim=ADAM,
        epochs=4,
        batch_size=64,
        precision="auto",
    )


def small() -> Recipe:
    """Stage II: minutes on two CPU cores; stage I is trained first where it has not been yet."""
    return Recipe(
        method=partial(
            ROS,
            first=Trained(recipe="ros:separation"),
            first_encoder=separation().encoder,
            samples=None,
            labeled=3000,
            hidden=64,
        ),
        encoder=partial(small_resnet),
        data=CLOTHES,
        views=RelativeRotation(MILD),
        optim=ADAM,
        epochs=2,
        batch_size=64,
        precision="auto",
        evaluate=(OpenSetScores(),),
    )


def without_rotation() -> Recipe:
    """`small` without the rotation task in stage II: what it is compared with."""
    recipe = small()
    assert isinstance(recipe.method, partial)
    return replace(recipe, method=partial(ROS, **{**recipe.method.keywords, "rotation": 0.0}))
