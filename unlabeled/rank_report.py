"""rank_report(): which scores without labels order models as linear accuracy does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unlabeled.compare import MODELS, compare, entries_of
from unlabeled.data.source import DataSource
from unlabeled.evaluators.rank_report import FEWEST, RankReport
from unlabeled.session import Say

PROTOCOLS = ("linear", "alignment")


def rank_report(
    models: Sequence[MODELS],
    *,
    data: str | DataSource | None = None,
    protocols: Sequence[Any] = PROTOCOLS,
    seed: int = 0,
    batch_size: int = 512,
    image_size: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    say: Say | None = None,
) -> RankReport:
    """Judge models with a linear probe and without labels, and compare the two orders.

    Runs of one recipe that differ in their seed are one model, with the mean of their scores, as
    in `unlabeled.compare.compare`; no floor is judged. Few models say little: the report gives for
    each score how often chance agrees as well.

    Args:
        models: run folders, folders of runs, or models: what `compare` takes, at least four.
        data: labeled data; by default that of the runs, if it is the same for all.
        protocols: the linear probe, and evaluators without labels beside those that every
            evaluation has (`labelfree`); for data that is no images, leave "alignment" out.
        seed: of the probe's splits.
        batch_size: samples of a forward pass.
        image_size: side in pixels for models given by name.
        device: where to compute.
        precision: of forward passes.
        say: told which model is judged, a line each.

    Raises:
        ValueError: fewer than four models, no linear accuracy (data without labels, or protocols
            without a linear probe), or what `compare` refuses.
    """
    entries = entries_of(models)
    if len(entries) < FEWEST:
        raise ValueError(
            f"{len(entries)} models have too few orders to tell agreement from chance: give "
            f"{FEWEST} or more (seeds of one recipe are one)"
        )
    report = compare(
        models,
        data=data,
        protocols=protocols,
        floors=(),
        seed=seed,
        batch_size=batch_size,
        image_size=image_size,
        device=device,
        precision=precision,
        say=say,
    ).ranks()
    if not report.lines:
        raise ValueError(
            f"no linear accuracy on {report.data}: give labeled data, and a linear probe among the "
            "protocols"
        )
    return report
