"""The page: self-contained, escaped, and without sections that have nothing to say."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from unlabeled.artifacts import Model
from unlabeled.data.images import ArraySamples, ImageSource
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.report.content import Fact, ReportContent, collect
from unlabeled.report.page import render, write_report
from unlabeled.report.provenance import command

EVIL = "\"'><script>alert(1)</script></style>&<!--{{json}}\udcff"
HEADINGS = ["Does it help?", "How training went", "The map", "Nearest neighbors"]
HEADINGS += ["What the method saw", "How it was made"]


class Source(ImageSource):
    """Random images, every third of a class, with names that try to break the page."""

    def __init__(self, *, count=60, channels=3, size=20, labels=True, test=True, path=True):
        images = torch.rand(count, channels, size, size)
        label = torch.arange(count) % 3 if labels else None
        names = [f"{EVIL}/{number}.png" for number in range(count)] if path else None
        self.samples = ArraySamples(images, label=label, path=names)
        self.labels, self.test = labels, test

    @property
    def name(self):
        return f"set {EVIL}"

    @property
    def classes(self):
        return (EVIL, "b", "c") if self.labels else None

    def split(self, name):
        if name == "train" or (name == "test" and self.test):
            return self.samples
        raise ValueError(f"no split {name}")


class Flat(Encoder):
    """Four numbers of an image, by a layer whose mode shows."""

    def __init__(self, spec):
        super().__init__()
        self.dim, self.spec = 4, spec
        self.layer = nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.Dropout(0.5))

    def local(self, x):
        return self.layer(x)[:, None]

    def pool(self, local):
        return local[:, 0]


def model_of(source):
    return Model(Flat(source.spec()), f"model {EVIL}", None)


def scores():
    row = {"name": f"model {EVIL}", "readout": "pooled", "protocol": f"knn/{EVIL}"}
    row |= {"metric": "top1", "value": 71.25, "unit": "%", "spread": None, "trials": [71.25]}
    floor = {**row, "name": "raw input", "value": 60.0}
    over = {"protocol": row["protocol"], "floor_protocol": row["protocol"], "metric": "top1"}
    over |= {"readout": "pooled", "floor": "raw input", "shown": True}
    over |= {"difference": 11.25, "margin": 1.0}
    return {
        "model": row["name"],
        "rows": [row, floor],
        "comparisons": [over],
        "sentences": [f"compared {EVIL}", f"not shown {EVIL}"],
    }


def gathered(**options):
    source = Source(**options)
    return collect(model=model_of(source), data=source, scores=scores(), run=None, points=40)


class Reader(HTMLParser):
    """All tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.inside, self.text = [], "", {"script": [], "style": []}
        self.plain = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in self.text:
            self.inside = tag
            self.text[tag].append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.text[self.inside][-1] += data
        else:
            self.plain += data


def test_nothing_is_asked_of_any_server():
    content = replace(gathered(), facts=(Fact(name="a", text="paper", url="https://arxiv.org/x"),))
    page = render(content)
    reader = Reader(page)
    for tag, attributes in reader.tags:
        for key in ("src", "srcset", "poster", "data", "action", "background", "style"):
            value = attributes.get(key) or ""
            assert "//" not in value or value.startswith("data:image/"), (tag, key)
        if tag not in ("a",) and "href" in attributes:
            assert attributes["href"] == "data:,"
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not [key for key in attributes if key.startswith("on")]
    for style in reader.text["style"]:
        assert "@import" not in style
        assert all(url.startswith("data:image/") for url in re.findall(r"url\((.*?)\)", style))
    for word in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon"):
        assert word not in reader.text["script"][-1]
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert [link for link in links if not link.startswith("#")] == ["https://arxiv.org/x"]
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_labels_paths_and_names_cannot_break_out():
    reader = Reader(render(gathered()))
    assert len(reader.text["script"]) == 2
    assert len(reader.text["style"]) == 1
    content = json.loads(reader.text["script"][0])
    assert content["map"]["names"][0] == EVIL
    assert content["map"]["captions"][0].startswith(EVIL)
    shown = EVIL.replace("\udcff", "?")
    assert f"model {shown} on set {shown}" in reader.plain
    for text in (f"compared {shown}", f"not shown {shown}", f"knn/{shown}"):
        assert text in reader.plain
    assert "{{json}}" in reader.plain  # text is never filled in twice


def test_links_that_are_no_addresses_stay_text():
    content = ReportContent(title="t", facts=(Fact(name="a", text="b", url="javascript:x"),))
    assert "javascript" not in render(content)


def headings(content):
    return re.findall(r"<h2>(.*?)</h2>", render(content))


def test_sections_without_content_are_left_out():
    full = gathered()
    assert headings(full) == [h for h in HEADINGS if h not in (HEADINGS[1], HEADINGS[4])]
    assert "How training went" not in headings(full)  # there is no run
    assert headings(ReportContent(title="t")) == ["Does it help?"]
    assert "The map" not in headings(replace(full, map=None))
    assert "Nearest neighbors" not in headings(replace(full, neighbors=None))
    assert HEADINGS[4] in headings(replace(full, views_missing="the folder is gone"))


def test_without_labels_the_page_says_what_it_cannot_say():
    source = Source(labels=False, test=False)
    content = collect(model=model_of(source), data=source, scores={}, run=None, points=40)
    assert content.table is None
    assert content.split == "train"
    page = render(content)
    assert "nothing on this page can say whether the encoder helps" in page
    assert "Effective rank" in page
    assert "<button" not in page
    assert "would by chance" not in page
    assert json.loads(Reader(page).text["script"][0])["map"]["labels"] is None


def test_labels_that_nothing_was_scored_against_are_no_missing_labels():
    source = Source()
    page = render(collect(model=model_of(source), data=source, scores={}, run=None, points=40))
    assert "Nothing was scored against the labels" in page
    assert "There are no labels here" not in page


def test_the_headline_and_the_table_stand_first():
    page = render(gathered())
    first = page[page.index("<main>") :]
    assert first.index("Yes, here: the encoder") < first.index("71.2") < first.index("60.0")
    assert first.index("60.0") < first.index("<canvas")
    assert '<span class="over above" title="± 1.0">+11.2</span>' in page


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_any_number_of_channels(channels):
    page = render(gathered(channels=channels))
    assert ("Channels beyond gray or color" in page) == (channels in (2, 6))


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_handful_of_samples(count):
    assert headings(gathered(count=count))[0] == "Does it help?"


def test_samples_are_those_of_the_split_and_the_encoder_stays_as_it_was():
    source = Source(count=50)
    model = model_of(source)
    model.encoder.train()
    content = collect(model=model, data=source, scores={}, run=None, points=20)
    assert all(module.training for module in model.encoder.modules())
    assert len(content.samples) == len(content.map.points) == 20
    assert len({sample.index for sample in content.samples}) == 20
    for sample in content.samples:
        assert sample.label == source.samples.label[sample.index]
        assert sample.path == source.samples.path[sample.index]
    again = collect(model=model, data=source, scores={}, run=None, points=20)
    assert again == content  # eval mode: dropout would show
    other = collect(model=model, data=source, scores={}, run=None, points=20, seed=1)
    assert other.samples != content.samples


def test_broken_encoders_are_named():
    source = Source()
    model = model_of(source)
    model.encoder(torch.zeros(1, 3, 20, 20))
    nn.init.constant_(model.encoder.layer[1].weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        collect(model=model, data=source, scores={}, run=None)
    with pytest.raises(ValueError, match="points is 0"):
        collect(model=model, data=source, scores={}, run=None, points=0)


def test_the_page_stays_small(tmp_path):
    content = collect(
        model=model_of(source := Source(count=1500, size=96)), data=source, scores={}, run=None
    )
    path = write_report(tmp_path / "new" / "report.html", content)
    assert path.stat().st_size < 3_000_000  # noise: no photograph is as hard to compress
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_failing_page_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_report(tmp_path / "report.html", ReportContent(title="old"))

    def fail(content):
        raise RuntimeError("no")

    monkeypatch.setattr("unlabeled.report.page.render", fail)
    with pytest.raises(RuntimeError):
        write_report(path, ReportContent(title="new"))
    assert "<h1>old</h1>" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_tiles_show_the_samples_of_their_captions():
    """Where CSS puts the sprite is where the sample's pixels are."""
    content = gathered()
    page = render(content)
    places = re.findall(r'<i style="background-position:([\d.]+)% ([\d.]+)%"></i>', page)
    shown = [
        number
        for query, row in zip(content.neighbors.queries, content.neighbors.found, strict=True)
        for number in (query, *(each.number for each in row))
    ]
    assert len(places) == len(shown)
    tiles = content.tiles
    for number, (x, y) in zip(shown, places, strict=True):
        place = content.tile_numbers.index(number)
        for share, cell, cells in zip(
            (x, y), tiles.place(place), (tiles.columns, tiles.rows), strict=True
        ):
            # a background at p % is moved by p % of (box - image), the box being one side
            moved = float(share) / 100 * (cells * tiles.pitch - tiles.side)
            assert moved == pytest.approx(cell * tiles.pitch, abs=0.01)


def test_content_is_plain_and_frozen():
    content = ReportContent(title="t")
    assert {field.name for field in fields(content)} >= {"table", "map", "charts", "views"}
    with pytest.raises(AttributeError):
        content.title = "other"


def test_the_command_is_one_that_a_shell_understands():
    changed = {"epochs": "2", "data": "my photos", "method.temperature": "0.2"}
    assert command("simclr:small", changed) == (
        "unlabeled pretrain simclr:small --data 'my photos' --epochs 2 method.temperature=0.2"
    )
    assert command("recipe", {}) == ""
    assert command("simclr:small", {"data": "Digits(image_size=16)"}) == ""


def test_specs_of_other_modalities_need_no_pictures():
    class Silent(Source):
        def spec(self):
            return "tokens"

        def prepare(self, spec):
            return lambda batch: batch["views"][0]

    source = Silent()
    model = Model(Flat(ImageSpec(channels=1, size=1, mean=(0,), std=(1,))), "m", None)
    content = collect(model=model, data=source, scores={}, run=None, points=30)
    assert content.sprite is None
    assert content.tiles is None
    assert headings(content) == ["Does it help?", "The map", "How it was made"]
