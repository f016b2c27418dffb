"""Fine-tuning: the whole encoder trained on, with all labels or few."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, check_labels, device_of, draw, measure
from unlabeled.evaluators.supervised import Classifier, Supervised, weight_groups
from unlabeled.features import embed

TRAINING = Supervised(epochs=5, least_steps=400, batch_size=128)
CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """A copy of the encoder and a linear head, trained on with layer-wise decay of the rate.

    The layer ``l`` of L learns at ``lr * layer_decay^(L - l)``, the head at ``lr`` (Clark et al.
    2020, arXiv:2003.10555; BEiT, arXiv:2106.08254). Each rate is tried on a stratified part of the
    labels; the accuracy on those held out, ``checks`` times in the run, chooses the rate and the
    moment to stop; the encoder is then trained on all the labels, and test read once. The encoder
    itself stays as it is. From random weights the same is training from scratch.

    With a ``share`` of the labels (1 % and 10 % in SimCLR, arXiv:2002.05709, section 6) it is done
    on ``draws`` stratified draws, whose standard deviation is the spread.

    Args:
        share: of the labels of each class, at least two.
        draws: of few labels; with all labels one.
        rates: the grid of learning rates.
        layer_decay: see above; 1 for one rate.
        training: epochs, batch size, decay, and mixup, which is off.
        held_out: share of the labels that choose.
        checks: moments at which they are asked.
        seed: of draws, split, head, order, flips and shifts.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a share, rate or decay outside its range; at judging, labels that are missing.
    """

    name: ClassVar[str] = "finetune"
    needs: ClassVar[str] = "encoder"
    share: float = 1.0
    draws: int = 3
    rates: tuple[float, ...] = (5e-4, 2e-3)
    layer_decay: float = 0.75
    training: Supervised = TRAINING
    held_out: float = 0.2
    checks: int = 5
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not 0 < self.held_out < 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"share {self.share}, held_out {self.held_out}, layer_decay {self.layer_decay}: "
                "give shares and a decay in (0, 1]"
            )
        if not self.rates or min(self.rates) <= 0 or min(self.draws, self.checks) < 1:
            raise ValueError(
                f"rates {self.rates}, draws {self.draws}, checks {self.checks}: give positive ones"
            )

    @property
    def protocol(self) -> str:
        """``finetune/adamw-v1``, with the share of the labels where it is not all."""
        share = "" if self.share == 1 else f"/{100 * self.share:g}%"
        return f"finetune/adamw-v1{share}"

    @torch.enable_grad()
    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Fine-tune copies, and judge each on test."""
        train, test = (
            embed(_no_feature, data, split=split, spec=predict.spec) for split in ("train", "test")
        )
        label, truth, classes = check_labels(train, test, fewest=2)
        hits, chosen, seen = [], [], 0
        for number in range(1 if self.share == 1 else self.draws):
            seed = self.seed + number
            generator = torch.Generator().manual_seed(seed)
            places, _ = draw(label, share=self.share, least=2, generator=generator)
            seen = len(places)
            run = partial(self._fit, predict, data, label, classes, seed)
            lr, share, found = self._choose(run, data, places, label, generator)
            network = run(lr=lr, places=places, share=share)
            guess = embed(network, data, split="test", spec=predict.spec).x.argmax(1)
            hits.append(guess == truth)
            chosen.append({"lr": lr, "share_of_steps": share, "held_out_top1": found})
        details = {
            "share": self.share,
            "rates": list(self.rates),
            "layer_decay": self.layer_decay,
            "steps": self.training.steps(seen),
            "batch_size": self.training.size(seen),
            "mixup": self.training.mixup,
            "chosen": chosen,
        }
        return [measure("top1", torch.stack(hits), train=seen, details=details)]

    def plain(self, data: DataSource) -> list[Measure]:
        """Nothing: the floor of random weights is training from scratch."""
        return []

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return {f"{self.name}/{each.metric}": each.value for each in self.judge(predict, data)}

    def _fit(
        self,
        encoder: Encoder,
        data: DataSource,
        label: Tensor,
        classes: int,
        seed: int,
        *,
        lr: float,
        places: Tensor,
        share: float = 1.0,
        after: Callable[[Classifier, int], None] | None = None,
    ) -> Classifier:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = nn.Linear(encoder.dim, classes)
        network = Classifier(copy.deepcopy(encoder), head).to(device_of(encoder))
        network.requires_grad_(True)
        training = replace(self.training, lr=lr)
        training.fit(
            network,
            layer_groups(network, layer_decay=self.layer_decay, decay=training.weight_decay),
            data,
            spec=encoder.spec,
            places=places,
            label=label[places],
            seed=seed,
            stop=max(1, round(share * training.steps(len(places)))),
            after=None if after is None else partial(after, network),
        )
        return network

    def _choose(
        self,
        run: Callable[..., Classifier],
        data: DataSource,
        places: Tensor,
        label: Tensor,
        generator: torch.Generator,
    ) -> tuple[float, float, list[list[float]]]:
        """The rate, the share of the steps, and the held-out accuracies of all."""
        own = label[places].unique(return_inverse=True)[1]
        held, fitted = draw(own, share=self.held_out, least=1, generator=generator)
        held, fitted = places[held], places[fitted]
        steps = self.training.steps(len(fitted))
        moments = [
            max(1, round(steps * place / self.checks)) for place in range(1, self.checks + 1)
        ]
        found: list[list[float]] = []
        for lr in self.rates:
            values: list[float] = []

            def check(network: Classifier, step: int, values: list[float] = values) -> None:
                if step in moments:
                    values.append(_accuracy(network, data, held, label[held]))

            run(lr=lr, places=fitted, after=check)
            found.append(values)
        grid = torch.tensor(found)
        rate, moment = divmod(int(grid.argmax()), grid.shape[1])
        return self.rates[rate], moments[moment] / steps, found


def layer_groups(network: Classifier, *, layer_decay: float, decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: each block of the encoder with its ``scale``, the head with 1.

    A block is what lies under one number in the network's names (``layer2.0``, ``blocks.3``), or
    under one name at its top; they count in the order in which the network lists them.
    """
    blocks: dict[str, None] = {}
    for name, _ in network.encoder.named_parameters():
        blocks.setdefault(_block(name))
    groups = []
    for depth, block in enumerate(blocks):
        part = [p for name, p in network.encoder.named_parameters() if _block(name) == block]
        for group in weight_groups(nn.ParameterList(part), decay):
            if group["params"]:
                groups.append({**group, "scale": layer_decay ** (len(blocks) - depth)})
    return [*groups, *({**group, "scale": 1.0} for group in weight_groups(network.head, decay))]


def _block(name: str) -> str:
    parts = name.removeprefix("net.").split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: number + 1])


@torch.no_grad()
def _accuracy(network: Classifier, data: DataSource, places: Tensor, truth: Tensor) -> float:
    """In eval mode, given back in training mode."""
    samples, spec, place = data.split("train"), network.encoder.spec, device_of(network)
    prepare, right = data.prepare(spec), 0
    network.eval()
    for part, wanted in zip(places.split(CHUNK), truth.split(CHUNK), strict=True):
        batch = data.collate(samples.__getitems__(part.tolist()))
        right += int((network(prepare(batch).to(place)).argmax(1).cpu() == wanted).sum())
    network.train()
    return 100 * right / len(places)


def _no_feature(x: Any) -> Tensor:
    """A width of nothing: only the labels are asked for."""
    return torch.zeros(len(x), 1)
