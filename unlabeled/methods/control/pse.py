"""PSE: Contrastive Behavioral Similarity Embeddings for Generalization in RL (2101.05265)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.jumping import Jumping, JumpSpec
from unlabeled.encoders.runs import RunEncoder, random_kernels, run_encoder
from unlabeled.evaluators.rollouts import Rollouts
from unlabeled.losses.policy_similarity import coupled_contrast, policy_similarity
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast
from unlabeled.ops.random_conv import SIDE, random_conv
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import exponential
from unlabeled.views.runs import WholeRuns


@final
class PSE(Method):
    """States of different tasks are alike where optimal behavior is the same from there on.

    A. Imitation of the optimal actions: ``L_IL = -log pi(a* | f(x))``, both actions weighing alike.
    B. For pairs of runs in the batch, the policy similarity metric d of their optimal actions
       (eq. 2), and contrastive metric embeddings of ``h(f(x))`` by it (eq. 5).
    ``L = L_IL + alpha L_CME`` (algorithm 1). The policy reads f, and the contrastive loss h(f).

    Args:
        encoder: f, of every frame.
        weight: alpha; 0 is imitation alone.
        gamma: of the metric.
        scale: beta, what the metric is divided by.
        temperature: T.
        hidden: width of h.
        test_convs: random convolutions whose policies are averaged when it acts; 0 for none.
    """

    encoder: RunEncoder

    def __init__(
        self,
        encoder: RunEncoder,
        *,
        weight: float = 1.0,
        gamma: float = 0.999,
        scale: float = 1.0,
        temperature: float = 1.0,
        hidden: int = 64,
        test_convs: int = 5,
    ) -> None:
        super().__init__(encoder)
        self.policy = nn.Linear(encoder.dim, 2)
        self.projector = nn.Sequential(mlp(encoder.dim, hidden), nn.ReLU()) if weight else None
        self.weight, self.gamma = weight, gamma
        self.scale, self.temperature, self.test_convs = scale, temperature, test_convs

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Imitation over all frames, contrast over pairs of neighbors in the random batch."""
        (x,) = batch["views"]
        f = self.encoder.local(x)
        action, steps = batch["actions"], torch.arange(x.shape[1], device=x.device)
        inside = steps < batch["length"][:, None]
        logits = upcast(self.policy(f))
        terms = {"imitation": balanced_cross_entropy(logits[inside], action[inside])}
        if self.projector is not None:
            z = self.projector(f)
            first, second = slice(0, 2 * (len(x) // 2), 2), slice(1, 2 * (len(x) // 2), 2)
            cost = (action[first, :, None] != action[second, None, :]).to(z.dtype)
            terms["contrast"] = self.weight * coupled_contrast(
                z[first],
                z[second],
                policy_similarity(cost, gamma=self.gamma),
                temperature=self.temperature,
                scale=self.scale,
                valid_x=inside[first],
                valid_y=inside[second],
            )
        return terms

    def act(self, x: Tensor) -> Tensor:
        """[B, 2, H, W] -> [B]: the likeliest action, averaged over random convolutions."""
        x = x.to(self.policy.weight)
        if not self.test_convs:
            return self.policy(self.encoder.frames(x)).argmax(1)
        kernels = random_kernels(self.test_convs, x.shape[1], SIDE).to(x)
        seen = random_conv(x[None].expand(len(kernels), *x.shape), kernels)
        logits = self.policy(self.encoder.local(seen)).float()
        return logits.softmax(2).mean(0).argmax(1)

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``act``: observations to actions, besides embeddings of runs."""
        return {"embed": self.encoder, "act": self.act}


def balanced_cross_entropy(logits: Tensor, action: Tensor) -> Tensor:
    """The mean over the actions that occur, on any rank, of each one's mean cross-entropy."""
    each = F.cross_entropy(logits, action, reduction="none")
    kinds = F.one_hot(action, logits.shape[1]).to(each.dtype)
    count = all_sum(kinds.sum(0))
    # ranks average their losses, so each brings its share of the sum as many times as there are
    mean = world_size() * (each @ kinds) / count.clamp_min(1)
    return mean.sum() / (count > 0).sum()


def paper() -> Recipe:
    """The jumping task at 60 px, the "wide" grid of 18 of 286 tasks, with random convolutions.

    Adam at 0.01, times 0.999 an epoch over 2,000 epochs; gamma 0.999; alpha, beta and T 1 (section
    5.1 and the official flags).
    """
    return Recipe(
        method=partial(PSE),
        encoder=partial(run_encoder),
        data=Jumping(),
        views=WholeRuns(),
        optim=Optim(kind=torch.optim.Adam, lr=exponential(1e-2, 1e-2 * 0.999**2000), lr_per=None),
        epochs=2000,
        batch_size=18,
        evaluate=(Rollouts(),),
    )


SMALL_WORLD = JumpSpec(side=36, agent=(4, 5), obstacle=(4, 6), reach=9)


def small() -> Recipe:
    """Minutes on two CPU cores: 36 px, 9 of 72 tasks."""
    return Recipe(
        method=partial(PSE, temperature=0.5),
        encoder=partial(run_encoder, widths=(16, 32, 32), kernels=(4, 4, 3), strides=(2, 2, 1)),
        data=Jumping(
            world=SMALL_WORLD,
            positions=(12, 23),
            floors=(3, 8),
            train_positions=(12, 17, 23),
            train_floors=(3, 5, 8),
        ),
        views=WholeRuns(),
        optim=Optim(kind=torch.optim.Adam, lr=exponential(2e-3, 2e-4), lr_per=None),
        epochs=800,
        batch_size=8,
        evaluate=(Rollouts(),),
    )


def imitation() -> Recipe:
    """`small` without the contrast: what it is compared with."""
    return replace(small(), method=partial(PSE, weight=0.0))


def plain() -> Recipe:
    """`small` without random convolutions."""
    return replace(
        small(),
        method=partial(PSE, temperature=0.5, test_convs=0),
        views=WholeRuns(probability=0.0),
    )


def plain_imitation() -> Recipe:
    """`small` with neither."""
    return replace(
        small(),
        method=partial(PSE, weight=0.0, test_convs=0),
        views=WholeRuns(probability=0.0),
    )
