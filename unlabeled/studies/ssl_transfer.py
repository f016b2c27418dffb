"""How Well Do Self-Supervised Models Transfer? (2011.13377).

One encoder a method, judged on other data: linear and fine-tuned, few-shot, dense, detection. Does
accuracy where it was trained say how it will do elsewhere?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any

from unlabeled.data.digits import Digits
from unlabeled.data.emoji import Emoji
from unlabeled.data.gray import Gray, GrayAnnotated
from unlabeled.data.shapes import Shapes
from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.calibration import Calibration
from unlabeled.evaluators.detection import Detection
from unlabeled.evaluators.episodes import Episodes
from unlabeled.evaluators.finetune import FineTune
from unlabeled.evaluators.linear import Linear
from unlabeled.evaluators.segmentation import LinearSegmentation
from unlabeled.evaluators.supervised import Supervised
from unlabeled.evaluators.transfer import Transfer
from unlabeled.methods.image import barlow_twins, byol, moco_v2, simclr, simsiam, swav
from unlabeled.ops.ranks import rank_correlation
from unlabeled.recipe import Recipe, Study
from unlabeled.studies.crl_review import LabelContrast

TASKS: Mapping[str, str] = {
    "digits_linear": "many-shot",
    "digits_finetune": "fine-tuned",
    "digits_episodes": "few-shot",
    "emoji-gray_linear": "many-shot",
    "emoji-gray_episodes": "few-shot",
    "shapes-gray_segmentation": "dense",
    "shapes-gray_detection ap50": "detection",
}
LABELS = "labels"


def logit(percent: float) -> float:
    """``log(p / (1 - p))`` of an accuracy in percent, kept off 0 and 100."""
    share = min(max(percent / 100, 1e-3), 1 - 1e-3)
    return math.log(share / (1 - share))


def pearson(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's r; NaN where one side is constant."""
    a, b = [x - mean(first) for x in first], [y - mean(second) for y in second]
    size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size if size > 0 else math.nan


def mean_ranks(found: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """The mean over tasks of each model's place, 1 for the best."""
    places: dict[str, list[float]] = {name: [] for name in names}
    for values in found.values():
        for name in names:
            better = sum(values[other] > values[name] for other in names)
            equal = sum(values[other] == values[name] for other in names)
            places[name].append(better + (equal + 1) / 2)
    return {name: mean(each) for name, each in places.items()}


def report(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Hold the paper's claims against the figures."""
    found = {
        score: {name: mean(values) for name, values in branches.items()}
        for score, branches in scores.items()
    }
    source = found["linear"]
    names = [name for name in source if name != "raw"]
    tasks = {task: found[task] for task in TASKS if task in found}
    ranks = mean_ranks(tasks, names)
    order = sorted(names, key=ranks.__getitem__)
    lines = [
        "mean rank over the tasks: " + ", ".join(f"{name} {ranks[name]:.1f}" for name in order)
    ]
    learned = [name for name in names if name not in (LABELS, "random")]
    ahead = [
        task for task, values in tasks.items()
        if max(values[name] for name in learned) > values[LABELS]
    ]  # fmt: skip
    said = "shown" if len(ahead) > len(tasks) / 2 else "not shown"
    lines.append(
        f"{said}: the best model without labels beats the one with labels on most tasks "
        f"({len(ahead)} of {len(tasks)})"
    )
    first = {max((values[name], name) for name in learned)[1] for values in tasks.values()}
    said = "shown" if len(first) > 1 else "not shown"
    lines.append(f"{said}: no single method is best everywhere ({', '.join(sorted(first))})")
    for task, kind in TASKS.items():
        if task in tasks:
            values = tasks[task]
            pair = [source[name] for name in names], [values[name] for name in names]
            rho = rank_correlation(*pair).rho
            r = pearson(*([logit(x) for x in side] for side in pair))
            lines.append(
                f"{kind}, {task}: r {r:+.2f} (logits), Spearman {rho:+.2f} with linear accuracy "
                f"where the {len(names)} models were trained"
            )
    for task in ("digits_linear", "digits_episodes"):
        values = tasks[task]
        gap = min(values[name] for name in names if name != "random") - values["random"]
        said = "shown" if gap >= 5 else "not shown"
        lines.append(f"{said}: random weights are last by 5 points or more on {task} ({gap:+.1f})")
    return lines


def _targets(*, episodes: int, finetune: FineTune, dense: Sequence[Any], shapes: Any) -> list[Any]:
    digits, emoji = Digits(), Gray(Emoji(image_size=28))
    shot = Episodes(shots=(5,), episodes=episodes)
    return [
        Transfer(digits, Linear()),
        Transfer(digits, finetune),
        Transfer(digits, shot),
        Transfer(emoji, Linear()),
        Transfer(emoji, shot),
        *(Transfer(shapes, judge) for judge in dense),
    ]


def _study(recipes: Mapping[str, Recipe], targets: Sequence[Any]) -> Study:
    judges = ("linear", *targets, Calibration())
    return Study(recipes=recipes, evaluators=judges, report=report)


def paper() -> Study:
    """The methods of the paper that are built here, trained on ImageNet, on colored targets.

    The paper's forty tasks need data that cannot be had here; these are the targets of `small`, in
    color where they have it.
    """
    recipes = {
        "simclr": simclr.paper(),
        "moco_v2": moco_v2.paper(),
        "byol": byol.paper(),
        "swav": swav.paper(),
    }
    tuned = FineTune(training=Supervised(epochs=1, least_steps=5000, batch_size=64))
    emoji, shapes = Emoji(image_size=128), Shapes(image_size=64)
    shot = Episodes(shots=(5, 20), episodes=600)
    targets = (
        Transfer(emoji, Linear()),
        Transfer(emoji, tuned),
        Transfer(emoji, shot),
        Transfer(shapes, LinearSegmentation()),
        Transfer(shapes, Detection(steps=2000)),
    )
    return _study(recipes, targets)


def small() -> Study:
    """Fashion-MNIST with a narrow encoder, an epoch a method; gray targets that are here."""
    narrow = partial(small_resnet, widths=(8, 16, 64))
    modules = {
        "simclr": simclr, "moco_v2": moco_v2, "simsiam": simsiam, "barlow_twins": barlow_twins,
    }  # fmt: skip
    recipes = {
        name: replace(module.small(), encoder=narrow, epochs=1) for name, module in modules.items()
    }
    recipes["simclr_tenth"] = replace(recipes["simclr"], epochs=0.1)
    recipes[LABELS] = replace(recipes["simclr"], method=partial(LabelContrast))
    tuned = FineTune(
        training=Supervised(epochs=1, least_steps=200, batch_size=64), rates=(2e-3,), checks=3
    )
    dense = (
        LinearSegmentation(images=800, epochs=8),
        Detection(images=600, steps=100, batch=8, tests=100, width=64),
    )
    shapes = GrayAnnotated(Shapes(image_size=32, train=1000, test=300))
    return _study(recipes, _targets(episodes=200, finetune=tuned, dense=dense, shapes=shapes))
