"""What a report says, as plain data, and how it is gathered from a model, data and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unlabeled.artifacts import Model, Run
from unlabeled.catalog import cards
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.evaluator import Figure
from unlabeled.evaluators.labelfree import effective_rank, relative_std
from unlabeled.report.curves import Chart, charts
from unlabeled.report.maps import Map, Neighbors, Sample, find_neighbors, project
from unlabeled.report.pictures import (
    Picture,
    Sprite,
    film,
    picture,
    sprite,
    stretch,
    thumbnails,
    visible,
)
from unlabeled.report.provenance import Provenance, encoder_text, provenance
from unlabeled.report.scores import Table, tables, verdict
from unlabeled.views.generator import SampleGenerator

BATCH = 256
MAP_BYTES = 900_000
TILES_BYTES = 250_000
VIEW_ROWS = 6
VIEW_SIDE = 112


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A line of the page's head; ``url`` makes the text a link."""

    name: str
    text: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Samples of the training data beside the views of them that the method saw.

    ``rows[0]`` has the raw pictures, each further row one view of them; ``names`` says which.
    Pictures are drawn ``zoom`` times their size.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Picture, ...], ...]
    zoom: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture or film that an evaluator made of the model, under its title."""

    title: str
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that the page shows; what is None or empty has no place on it."""

    title: str
    facts: tuple[Fact, ...] = ()
    headline: str = ""
    comparisons: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    table: Table | None = None
    label_free: Table | None = None
    health: tuple[Fact, ...] = ()
    charts: tuple[Chart, ...] = ()
    split: str = ""
    channels: int = 0
    classes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    map: Map | None = None
    sprite: Sprite | None = None
    neighbors: Neighbors | None = None
    tiles: Sprite | None = None
    tile_numbers: tuple[int, ...] = ()
    shown: tuple[Shown, ...] = ()
    views: Views | None = None
    views_missing: str = ""
    provenance: Provenance = field(default_factory=Provenance)


def collect(
    *,
    model: Model,
    data: DataSource,
    scores: Mapping[str, Any],
    run: Run | None,
    figures: Sequence[Figure] = (),
    points: int = 1500,
    seed: int = 0,
) -> ReportContent:
    """Gather what the report shows: embeds up to ``points`` samples, reads the run's files.

    Args:
        model: the encoder that the page is about.
        data: what it is judged on; its test split where there is one, else the training split.
        scores: what `unlabeled.evaluators.scores.Scores.to_json` gives: rows, comparisons, and a
            sentence for each comparison before others. Each may be missing.
        run: the run that made the encoder; None for weights from elsewhere.
        figures: what evaluators show of the model.
        points: samples on the map.
        seed: of the choice of samples and of the map.

    Raises:
        ValueError: fewer than one point, or an encoder that gives values that are not finite.
    """
    if points < 1:
        raise ValueError(f"points is {points}: the map needs 1 or more")
    labeled, free = tables(scores)
    sentences = tuple(str(sentence) for sentence in scores.get("sentences", ()))
    headline, count = verdict(scores), len(scores.get("comparisons", ()))
    if not headline and sentences:
        headline, sentences = sentences[0], sentences[1:]
    split = _split(data)
    pool = _embed(model, data, split, places=_places(data.size(split), points, seed))
    neighbors = find_neighbors(pool.x, pool.label, seed=seed)
    tiles, numbers = _tiles(data, split, pool, neighbors)
    views, missing = _views(run)
    samples = tuple(
        Sample(
            index=index,
            label=None if pool.label is None else int(pool.label[number]),
            path=None if pool.path is None else pool.path[number],
        )
        for number, index in enumerate(pool.places)
    )
    return ReportContent(
        title=f"{model.name} on {data.name}",
        facts=_facts(model, data, run),
        headline=headline,
        comparisons=sentences[:count],
        sentences=sentences[count:],
        table=labeled,
        label_free=free,
        health=_health(pool.x, split),
        charts=charts(run.metrics()) if run is not None else (),
        split=split,
        channels=pool.channels,
        classes=data.classes or (),
        samples=samples,
        map=project(pool.x, seed=seed),
        sprite=None if pool.thumbs is None else sprite(pool.thumbs, budget=MAP_BYTES),
        neighbors=neighbors,
        tiles=tiles,
        tile_numbers=numbers,
        shown=tuple(
            Shown(title=each.title, picture=film(each.frames, rate=each.rate)) for each in figures
        ),
        views=views,
        views_missing=missing,
        provenance=provenance(run),
    )


# The samples -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """The samples of the map: places in the split, embeddings and whatever else is known."""

    places: list[int]
    x: Tensor
    label: Tensor | None
    path: list[str] | None
    thumbs: Tensor | None
    channels: int


def _split(data: DataSource) -> str:
    try:
        data.split("test")
    except ValueError:
        return "train"
    return "test"


def _places(count: int, most: int, seed: int) -> list[int]:
    """Random places, not evenly spaced ones: data may be periodic in its classes."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:most].tolist())


def _embed(model: Model, data: DataSource, split: str, *, places: list[int]) -> _Pool:
    """Embed samples in eval mode; the encoder's state stays untouched."""
    encoder, samples, spec = model.encoder, data.split(split), data.spec()
    prepare = data.prepare(encoder.spec)
    device = next((value.device for value in encoder.parameters()), torch.device("cpu"))
    x, label, path, thumbs = [], [], [], []
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(places), BATCH):
                batch = samples.__getitems__(places[start : start + BATCH])
                x.append(encoder(prepare(batch).to(device)).float().cpu())
                if "label" in batch:
                    label.append(batch["label"].cpu())
                path += batch.get("path", [])
                if isinstance(spec, ImageSpec):
                    side = min(max(spec.size, 16), 48)
                    thumbs.append(thumbnails(batch, channels=spec.channels, side=side))
    finally:
        for module, mode in modes:
            module.training = mode
    rows = torch.cat(x)
    if not torch.isfinite(rows).all():
        raise ValueError(f"{model.name} gives values that are not finite: look at its weights")
    channels = spec.channels if isinstance(spec, ImageSpec) else 0
    return _Pool(
        places=places,
        x=rows,
        label=torch.cat(label) if label else None,
        path=path or None,
        thumbs=stretch(torch.cat(thumbs), channels=channels) if thumbs else None,
        channels=channels,
    )


def _tiles(
    data: DataSource, split: str, pool: _Pool, neighbors: Neighbors | None
) -> tuple[Sprite | None, tuple[int, ...]]:
    """Draw the samples that the neighbors' section shows, larger than on the map."""
    spec = data.spec()
    if neighbors is None or not isinstance(spec, ImageSpec):
        return None, ()
    shown = [*neighbors.queries, *(each.number for row in neighbors.found for each in row)]
    numbers = tuple(dict.fromkeys(shown))
    batch = data.split(split).__getitems__([pool.places[number] for number in numbers])
    pixels = thumbnails(batch, channels=spec.channels, side=min(spec.size, 96))
    pixels = stretch(pixels, channels=spec.channels)
    return sprite(pixels, budget=TILES_BYTES), numbers


# The views ---------------------------------------------------------------------------------------


def _views(run: Run | None) -> tuple[Views | None, str]:
    """Draw the first epoch's views of a few training samples, or say why they cannot be drawn."""
    if run is None:
        return None, ""
    try:
        recipe = run.recipe
        samples = recipe.data.split("train")
        places = _places(len(samples), VIEW_ROWS, recipe.seed)
        raw = samples.__getitems__(places)
    except (OSError, ValueError) as error:
        return None, f"The training data cannot be read here any more: {error}"
    spec = recipe.views.spec
    if not isinstance(spec, ImageSpec):
        return None, ""
    batch = recipe.views(raw, SampleGenerator(recipe.seed, 0, raw["index"]))
    mean = torch.tensor(spec.mean)[:, None, None]
    std = torch.tensor(spec.std)[:, None, None]
    keep = visible(spec.channels)
    drawn = [
        (side_by_side(view.float()) * std + mean)[:, :keep].clamp(0, 1) for view in batch["views"]
    ]
    plain = thumbnails(raw, channels=spec.channels, side=spec.size)
    pictures = [stretch(pixels, channels=spec.channels) for pixels in (plain, *drawn)]
    largest = max(pixels.shape[-1] for pixels in pictures)
    zoom = max(1, VIEW_SIDE // largest) if largest <= VIEW_SIDE else 1
    shrink = min(1.0, VIEW_SIDE / largest)
    rows = tuple(
        tuple(picture(image, most=max(1, math.ceil(shrink * image.shape[-1]))) for image in pixels)
        for pixels in pictures
    )
    names = tuple(
        f"view {number} ({pixels.shape[-1]} px)" for number, pixels in enumerate(drawn, start=1)
    )
    return Views(names=("image", *names), rows=rows, zoom=zoom, channels=spec.channels), ""


def side_by_side(view: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W]: a view as a picture; a grid of patches side by side."""
    if view.ndim != 6:
        return view
    return view.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


# The facts ---------------------------------------------------------------------------------------


def _facts(model: Model, data: DataSource, run: Run | None) -> tuple[Fact, ...]:
    facts = []
    card = cards().get(run.name.partition(":")[0]) if run is not None else None
    if card is not None:
        facts.append(Fact(name="Method", text=f"{card.name}: {card.title}", url=card.url))
    parameters = sum(value.numel() for value in model.encoder.parameters())
    text = f"{encoder_text(model)}, {model.encoder.dim} dimensions, {_count(parameters)} parameters"
    facts.append(Fact(name="Encoder", text=text))
    facts.append(Fact(name="Data", text=_data_text(data)))
    if run is not None:
        options = run.info["recipe"]["options"]
        text = f"{options['epochs']:g} epoch{'' if options['epochs'] == 1 else 's'}, "
        text += f"batch size {options['batch_size']}, "
        text += f"{options['precision']}, seed {options['seed']}"
        facts.append(Fact(name="Training", text=text))
    return tuple(facts)


def _data_text(data: DataSource) -> str:
    parts = [f"{data.size('train'):,} training"]
    if _split(data) == "test":
        parts.append(f"{data.size('test'):,} test")
    text = f"{data.name}: {' and '.join(parts)} samples"
    spec = data.spec()
    if isinstance(spec, ImageSpec):
        kind = {1: "gray", 3: "color"}.get(spec.channels, f"{spec.channels}-channel")
        text += f", {kind} images at {spec.size} px"
    if data.classes:
        return f"{text}, {len(data.classes)} classes"
    return f"{text}, no labels"


def _health(x: Tensor, split: str) -> tuple[Fact, ...]:
    if len(x) < 2:
        return ()
    std, rank = relative_std(x), effective_rank(x)
    where = f"of {len(x):,} {split} samples"
    return (
        Fact(name="Relative standard deviation", text=f"{std:.2f} (1 spread evenly, 0 collapsed)"),
        Fact(name="Effective rank", text=f"{rank:.1f} of {x.shape[1]} dimensions, {where}"),
    )


def _count(number: int) -> str:
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number:,}"
