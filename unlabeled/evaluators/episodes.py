"""Few-shot episodes: small classification tasks drawn from the test classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BLOCK = 2**25
"""Numbers of gathered features that are held at once."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

Head = Callable[[Tensor, Tensor], Tensor]
"""(support [E, W, K, d], query [E, W, Q, d]) -> scores [E, W, Q, W]."""


def draw_episodes(
    label: Int[Tensor, " N"],
    *,
    episodes: int,
    way: int,
    each: int,
    generator: torch.Generator,
) -> Int[Tensor, "E W M"]:
    """Places of ``each`` samples of each of ``way`` classes, drawn without replacement.

    Classes with fewer than ``each`` samples are never drawn.

    Args:
        label: 0 .. C - 1.
        episodes: E.
        way: W, classes of an episode.
        each: M, samples of a class.
        generator: of the draws.

    Raises:
        ValueError: fewer than ``way`` classes with so many samples.
    """
    count = label.bincount()
    enough = (count >= each).nonzero().flatten()
    if len(enough) < way:
        most = int(count.topk(min(way, len(count))).values[-1])
        raise ValueError(
            f"{len(enough)} of {len(count)} test classes have {each} samples (shots and queries): "
            f"an episode needs {way}; ask for fewer shots, queries or ways "
            f"({min(way, len(count))} classes have {most})"
        )
    order = label.argsort(stable=True)
    start = count.cumsum(0) - count
    keys = torch.rand(episodes, len(enough), generator=generator)
    chosen = enough[keys.topk(way, dim=1).indices]  # [E, W]
    most = int(count[enough].max())
    found = []
    for part in chosen.split(max(1, BLOCK // (way * most))):
        keys = torch.rand(*part.shape, most, generator=generator)
        keys[torch.arange(most) >= count[part][..., None]] = -1  # beyond the class
        place = keys.topk(each, dim=2).indices
        found.append(order[start[part][..., None] + place])
    return torch.cat(found)


def nearest_mean(
    support: Float[Tensor, "E W K d"], query: Float[Tensor, "E W Q d"]
) -> Float[Tensor, "E W Q W"]:
    """``-|q - mean_k|^2``: the nearest class mean (Snell et al. 2017, arXiv:1703.05175)."""
    mean, flat = support.mean(2), query.flatten(1, 2)
    # distances stay, but squares of a common offset would drown them in float32
    center = mean.mean(1, keepdim=True)
    found = torch.cdist(flat - center, mean - center)
    return -found.square().unflatten(1, query.shape[1:3])


def ridge(
    support: Float[Tensor, "E W K d"], query: Float[Tensor, "E W Q d"], *, strength: float
) -> Float[Tensor, "E W Q W"]:
    """Ridge regression onto one-hot labels in closed form, on features centered by the support.

    ``(q - m) X^T (X X^T + strength tr(X X^T) / n I)^-1 Y``, X the n = W K centered supports: the
    strength means the same for features of any scale.
    """
    way, shots = support.shape[1:3]
    x, q = support.flatten(1, 2), query.flatten(1, 2)
    mean = x.mean(1, keepdim=True)
    x, q = x - mean, q - mean
    gram = x @ x.mT
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(x.dtype).tiny)
    eye = torch.eye(way * shots, dtype=x.dtype, device=x.device)
    target = one_hot(torch.arange(way, device=x.device).repeat_interleave(shots), way).to(x)
    target = target - 1 / way
    solved = torch.linalg.solve(
        gram + strength * scale[:, None, None] * eye, target.expand(len(x), -1, -1)
    )
    return (q @ x.mT @ solved).unflatten(1, query.shape[1:3])


def accuracies(
    x: Float[Tensor, "N d"], places: Int[Tensor, "E W M"], *, shots: int, head: Head
) -> Float[Tensor, " E"]:
    """Share of queries that the head gives their class, an episode each."""
    way, each = places.shape[1:]
    truth = torch.arange(way, device=x.device)[:, None]
    found = []
    for part in places.split(max(1, BLOCK // (way * each * x.shape[1]))):
        gathered = x[part.flatten()].view(*part.shape, -1)
        scores = head(gathered[:, :, :shots], gathered[:, :, shots:])
        found.append((scores.argmax(3) == truth).double().mean((1, 2)))
    return torch.cat(found)


def half_width(values: Float[Tensor, " E"]) -> float:
    """``1.96 std / sqrt(E)``: half the 95 % interval of the mean over E episodes; 0 for one."""
    return 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """W-way K-shot episodes from the test split: nearest class mean, and ridge regression.

    Each episode draws ``way`` classes, ``shots`` labeled samples and ``queries`` others of each.
    The features are pooled and not normalized (Ericsson et al. 2021, arXiv:2011.13377, section C).
    The strength of the ridge is chosen on episodes from train, where it has enough samples, else
    it is 1. The trials are the episodes; ``half_width_95`` is 1.96 std / sqrt(episodes). Each head
    sees the same episodes. No encoder is trained on episodes, so test may have train's classes:
    only its samples are new.

    Args:
        shots: K, a figure of each head for each.
        way: W; all classes where there are fewer.
        queries: of a class and episode.
        episodes: how many.
        seed: of the draws.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a count below 1, or fewer than two ways.
    """

    name: ClassVar[str] = "episodes"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "episodes/pooled-v1"
    shots: tuple[int, ...] = (1, 5, 20)
    way: int = 5
    queries: int = 15
    episodes: int = 600
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.shots or min(*self.shots, self.queries, self.episodes) < 1 or self.way < 2:
            raise ValueError(
                f"shots {self.shots}, queries {self.queries}, episodes {self.episodes}, way "
                f"{self.way}: give counts of at least 1, and two ways or more"
            )

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return the mean accuracy over the episodes, a figure a head and number of shots."""
        label, truth, classes = check_labels(train, test)
        way = min(self.way, len(truth.unique()))
        if way < 2:
            raise ValueError("test has one class: an episode needs two or more")
        measures = []
        for shots in self.shots:
            places = self._draw(truth, way, shots)
            strength, chosen = self._strength(train.x, label, way, shots)
            heads: dict[str, Head] = {
                "mean": nearest_mean,
                "ridge": partial(ridge, strength=strength),
            }
            for kind, head in heads.items():
                values = 100 * accuracies(test.x, places, shots=shots, head=head)
                details: dict[str, Any] = {
                    "way": way,
                    "shots": shots,
                    "queries": self.queries,
                    "classes": classes,
                    "half_width_95": half_width(values),
                }
                if kind == "ridge":
                    details |= {"strength": strength, "chosen_on_train": chosen}
                measures.append(
                    Measure(
                        metric=f"{way}-way {shots}-shot {kind}",
                        value=float(values.mean()),
                        trials=tuple(values.tolist()),
                        test=len(truth),
                        details=details,
                    )
                )
        return measures

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)

    def _draw(self, label: Tensor, way: int, shots: int, *, episodes: int | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return draw_episodes(
            label,
            episodes=episodes or self.episodes,
            way=way,
            each=shots + self.queries,
            generator=generator,
        )

    def _strength(self, x: Tensor, label: Tensor, way: int, shots: int) -> tuple[float, bool]:
        if int((label.bincount() >= shots + self.queries).sum()) < way:
            return 1.0, False
        places = self._draw(label, way, shots, episodes=min(100, self.episodes))
        found = [
            float(accuracies(x, places, shots=shots, head=partial(ridge, strength=each)).mean())
            for each in RIDGES
        ]
        return RIDGES[max(range(len(RIDGES)), key=found.__getitem__)], True
