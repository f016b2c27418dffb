from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from unlabeled import catalog
from unlabeled.catalog.__main__ import main
from unlabeled.catalog.board import render_board, render_studies
from unlabeled.catalog.card_files import KINDS, MODALITIES, PAPERS
from unlabeled.catalog.render import BEGIN, END, replace_block
from unlabeled.catalog.result_files import PACKAGE

README = PACKAGE.parent / "README.md"
CARDS = catalog.cards()


def built_files() -> list[Path]:
    files = [*PACKAGE.glob("methods/*/*.py"), *PACKAGE.glob("studies/*.py")]
    return sorted(path for path in files if path.stem != "__init__")


def test_every_contrastive_row_stands_in_the_taxonomy() -> None:
    for card in CARDS.values():
        if card.id <= 26 and card.kind != "survey":
            assert card.taxonomy is not None, card.stem


def test_an_unknown_place_in_the_taxonomy_is_refused(tmp_path: Path) -> None:
    text = (PAPERS / "simclr.toml").read_text()
    (tmp_path / "simclr.toml").write_text(text.replace('loss = "softmax"', 'loss = "soft"'))
    with pytest.raises(ValueError, match="loss is 'soft': it must be one of"):
        catalog.cards(tmp_path)


# Cards -------------------------------------------------------------------------------------------


def test_every_row_of_the_list_has_one_card() -> None:
    assert [card.id for card in CARDS.values()] == list(range(1, 128))
    assert set(CARDS) == {path.stem for path in PAPERS.iterdir()}


@pytest.mark.parametrize("stem", CARDS)
def test_a_card_is_complete(stem: str) -> None:
    card = CARDS[stem]
    assert card.stem == stem
    assert re.fullmatch(r"[a-z][a-z0-9_]*", stem)
    for text in (card.name, card.title, card.venue, card.listed_as, card.family):
        assert text.strip()
        assert text == text.strip()
    assert card.summary.endswith(".")
    assert card.kind in KINDS
    assert card.modality in MODALITIES
    assert re.match(r"https?://\S+$", card.url)
    assert not card.code or re.match(r"https?://\S+$", card.code)
    assert re.fullmatch(r"(\d{4}\.\d{4,5})?", card.arxiv)
    assert card.arxiv in card.url
    assert 2000 <= card.year <= 2030
    for figure in card.published:
        assert figure.metric
        assert figure.data
        assert figure.source
        assert figure.epochs is None or figure.epochs > 0
    assert len({json.dumps(asdict(figure)) for figure in card.published}) == len(card.published)
    for deviation in card.deviation:
        assert deviation.what
        assert deviation.why
        assert deviation.effect


def test_the_duplicate_points_at_the_row_that_it_repeats() -> None:
    duplicates = [card for card in CARDS.values() if card.kind == "duplicate"]
    assert [card.id for card in duplicates] == [95]
    assert [card for card in CARDS.values() if card.duplicate_of] == duplicates
    first = CARDS[duplicates[0].duplicate_of]
    assert (first.id, first.title, first.url) == (87, duplicates[0].title, duplicates[0].url)
    assert len({card.url for card in CARDS.values()}) == 126


@pytest.mark.parametrize(
    ("stem", "arxiv", "venue"),
    [
        ("moco_v2", "2003.04297", "arXiv:2003.12338"),
        ("cl_ica", "2102.08850", "arXiv:2012.08850"),
        ("ruc", "2012.11150", "arXiv:2102.11150"),
        ("pse", "2101.05265", "arxiv:2009.05923"),
    ],
)
def test_wrong_ids_of_the_list_are_mended_and_kept(stem: str, arxiv: str, venue: str) -> None:
    assert (CARDS[stem].arxiv, CARDS[stem].venue) == (arxiv, venue)


def test_every_built_file_has_a_card_and_lies_in_its_place() -> None:
    stems = [path.stem for path in built_files()]
    assert len(set(stems)) == len(stems)
    for path in built_files():
        assert path.stem in CARDS, f"{path} has no card"
        assert catalog.module_path(path.stem) == path
        if path.parent.name != "studies":
            assert path.parent.name == CARDS[path.stem].modality, path


def test_an_unknown_stem_names_the_nearest() -> None:
    assert catalog.card("simclr").id == 6
    with pytest.raises(ValueError, match="'simclrr': did you mean simclr"):
        catalog.card("simclrr")
    with pytest.raises(ValueError, match="unlabeled list"):
        catalog.card("qqqqqqqq")


CARD = """id = 1
stem = "one"
name = "One"
title = "One"
url = "https://example.org"
arxiv = ""
venue = "-"
year = 2020
listed_as = "-"
kind = "method"
family = "instance"
modality = "image"
labels = false
code = ""
summary = "One."
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = ", "not valid TOML"),
        (CARD.replace("year = 2020\n", ""), "lacks year"),
        (CARD + "colour = 1\n", "no field 'colour'"),
        (CARD.replace("2020", '"2020"'), "year is '2020'"),
        (CARD.replace("id = 1", "id = true"), "id is True"),
        (CARD.replace('"method"', '"recipes"'), "kind is 'recipes'"),
        (CARD.replace('"image"', '"images"'), "modality is 'images'"),
        (CARD.replace('stem = "one"', 'stem = "two"'), "the file's name"),
        (CARD + '[[published]]\nmetric = "top-1"\nvalue = 1.0\ndata = "x"\n', "lacks source"),
        (CARD + '[[deviation]]\nwhat = "a"\nwhy = "b"\n', "lacks effect"),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "one.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        catalog.cards(tmp_path)
    assert "one.toml" in str(caught.value)


# Results and status ------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    source = tmp_path / "unlabeled" / "methods" / "image" / "simclr.py"
    source.parent.mkdir(parents=True)
    source.write_text("TEMPERATURE = 0.1\n")
    return tmp_path / "unlabeled"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


PROTOCOL = {"id": "knn-k20", "metric": "top-1", "unit": "%", "higher_is_better": True, "k": 20}


def content(package: Path, **changes: Any) -> dict[str, Any]:
    sources = catalog.source_hashes([package / "methods/image/simclr.py"], package=package)
    return {
        "stem": "simclr",
        "preset": "small",
        "fingerprint": "0123456789abcdef",
        "sources": sources,
        "commit": "8e953fb",
        "versions": {"torch": "2.11.0"},
        "device": "2 cores",
        "data": "fashion-mnist",
        "encoder": "small resnet",
        "epochs": 20,
        "seeds": [0, 1, 2],
        "seconds": [300.0, 301.0, 302.0],
        "scores": {
            "linear": {"encoder": [85.0, 85.0, 85.0], "random": [86.0, 86.0, 86.0]},
            "knn": {"encoder": [84.0, 85.0, 86.0], "random": [76.0, 76.0, 76.0], "raw": [81.0]},
        },
        "protocols": {"linear": PROTOCOL | {"id": "linear"}, "knn": PROTOCOL},
    } | changes


def knn(encoder: list[float], random: list[float]) -> dict[str, Any]:
    return {"knn": {"encoder": encoder, "random": random}}


def test_status_not_yet(package: Path, folder: Path) -> None:
    assert catalog.module_path("byol", package=package) is None
    assert catalog.status("byol", folder=folder, package=package) == "not yet"


def test_status_implemented(package: Path, folder: Path) -> None:
    path = package / "methods" / "image" / "simclr.py"
    assert catalog.module_path("simclr", package=package) == path
    assert catalog.status("simclr", folder=folder, package=package) == "implemented"
    study = package / "studies" / "crl_review.py"
    study.parent.mkdir()
    study.write_text("")
    assert catalog.module_path("crl_review", package=package) == study


def test_status_measured_and_stale(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "simclr.small.json", content(package))

    def status(fingerprint: Callable[[str, str], str] | None = None) -> str:
        return catalog.status("simclr", folder=folder, package=package, fingerprint=fingerprint)

    assert status() == "measured"

    asked = []

    def current(stem: str, preset: str) -> str:
        asked.append((stem, preset))
        return "0123456789abcdef"

    assert status(current) == "measured"
    assert asked == [("simclr", "small")]
    assert status(lambda *_: "other") == "stale"

    (package / "methods/image/simclr.py").write_text("TEMPERATURE = 0.2\n")
    assert status() == "stale"


def test_a_result_whose_source_is_gone_is_stale(package: Path, folder: Path) -> None:
    part = package / "nn" / "heads.py"
    part.parent.mkdir()
    part.write_text("")
    sources = catalog.source_hashes([part, package / "methods/image/simclr.py"], package=package)
    catalog.write_result(folder / "simclr.small.json", content(package, sources=sources))
    assert catalog.status("simclr", folder=folder, package=package) == "measured"
    part.unlink()
    assert catalog.status("simclr", folder=folder, package=package) == "stale"


@pytest.mark.parametrize(
    ("encoder", "random", "higher", "expected"),
    [
        ([80.0, 80.0, 80.0], [79.0, 79.0, 79.0], True, "measured"),
        ([80.0, 80.0, 80.0], [80.0, 80.0, 80.0], True, "not learning"),
        ([78.0, 80.0, 82.0], [79.0, 79.0, 79.0], True, "not learning"),
        ([80.0, 80.0, 80.0], [77.0, 79.0, 81.0], True, "not learning"),
        ([70.0, 70.0, 70.0], [79.0, 79.0, 79.0], True, "not learning"),
        ([70.0, 70.0, 70.0], [79.0, 79.0, 79.0], False, "measured"),
        ([80.0, 80.0, 80.0], [79.0, 79.0, 79.0], False, "not learning"),
    ],
)
def test_learning_means_above_the_random_encoder_by_more_than_the_spread(
    package: Path,
    folder: Path,
    encoder: list[float],
    random: list[float],
    higher: bool,
    expected: str,
) -> None:
    protocols = {"knn": {"id": "x", "metric": "x", "unit": "", "higher_is_better": higher}}
    changed = content(package, scores=knn(encoder, random), protocols=protocols)
    catalog.write_result(folder / "simclr.small.json", changed)
    assert catalog.status("simclr", folder=folder, package=package) == expected


def test_the_first_score_decides_where_there_is_no_knn(package: Path, folder: Path) -> None:
    scores = {"linear": content(package)["scores"]["linear"]}
    catalog.write_result(folder / "simclr.small.json", content(package, scores=scores))
    assert catalog.status("simclr", folder=folder, package=package) == "not learning"


def test_small_decides_among_presets(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "simclr.paper.json", content(package, preset="paper"))
    weak = content(package, scores=knn([76.0], [76.0]), seeds=[0], seconds=[1.0])
    catalog.write_result(folder / "simclr.small.json", weak)
    assert list(catalog.results("simclr", folder=folder)) == ["small", "paper"]
    assert catalog.status("simclr", folder=folder, package=package) == "not learning"


def test_a_stem_does_not_take_the_results_of_a_longer_one(package: Path, folder: Path) -> None:
    longer = content(package, stem="simclr_v2")
    catalog.write_result(folder / "simclr_v2.small.json", longer)
    assert catalog.results("simclr", folder=folder) == {}


def test_a_study_needs_no_random_floor(package: Path, folder: Path) -> None:
    study = package / "studies" / "crl_review.py"
    study.parent.mkdir()
    study.write_text("")
    scores = {"knn": {"encoder": [80.0, 81.0, 82.0]}}
    changed = content(package, stem="crl_review", scores=scores)
    catalog.write_result(folder / "crl_review.small.json", changed)
    assert catalog.status("crl_review", folder=folder, package=package) == "measured"
    with pytest.raises(ValueError, match="lacks its floor 'random'"):
        catalog.write_result(folder / "simclr.small.json", content(package, scores=scores))


def study(package: Path) -> dict[str, Any]:
    (package / "studies").mkdir(exist_ok=True)
    (package / "studies" / "crl_review.py").write_text("")
    scores = {"knn": {"a": [80.0, 81.0, 82.0], "b": [70.0, 70.0, 70.0], "random": [60.0] * 3}}
    report = ["a is above b"]
    return content(package, stem="crl_review", scores=scores, report=report)


def test_a_study_has_a_branch_a_recipe(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "crl_review.small.json", study(package))
    assert catalog.status("crl_review", folder=folder, package=package) == "measured"
    (result,) = catalog.results("crl_review", folder=folder).values()
    assert result.trained == ["a", "b"]
    assert catalog.study_table(result).splitlines() == [
        "| recipe | knn, top-1, % |",
        "| --- | --- |",
        "| a | 81 ± 1 |",
        "| b | 70 ± 0 |",
        "| random | 60 ± 0 |",
        "",
        "- a is above b",
    ]
    assert "2 recipes, knn top-1 from b 70 to a 81 %" in catalog.measured_text(result)
    assert "a is above b" in render_studies(folder=folder)


def test_the_board_holds_what_was_measured_alike(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "simclr.small.json", content(package))
    better = content(package)["scores"] | knn([90.0, 91.0, 92.0], [76.0] * 3)
    catalog.write_result(folder / "byol.small.json", content(package, stem="byol", scores=better))
    other = content(package, stem="moco", data="digits")
    catalog.write_result(folder / "moco.small.json", other)
    catalog.write_result(folder / "crl_review.small.json", study(package))
    page = render_board(folder=folder)
    assert page.index("| BYOL | 91.0 ± 1.0 | 85.0 ± 0.0 | +15.0 |") < page.index("| SimCLR |")
    assert "| MoCo |" not in page
    assert "another encoder: MoCo." in page


def test_an_empty_board_says_so(folder: Path) -> None:
    assert "Nothing has been measured" in render_board(folder=folder)


def test_the_pages_of_the_docs_are_rendered() -> None:
    for name, page in (("board.md", render_board()), ("studies.md", render_studies())):
        text = (README.parent / "docs" / name).read_text(encoding="utf-8")
        assert text == page, "run `python -m unlabeled.catalog --render`"


def test_a_duplicate_has_the_status_of_its_row(package: Path, folder: Path) -> None:
    assert catalog.status("omeganet_others", folder=folder, package=package) == "not yet"
    source = package / "methods" / "video" / "omeganet.py"
    source.parent.mkdir()
    source.write_text("")
    assert catalog.status("omeganet_others", folder=folder, package=package) == "implemented"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[]", "JSON object"),
        ("{}", "lacks 'stem'"),
    ],
)
def test_a_corrupt_result_is_named(folder: Path, text: str, message: str) -> None:
    folder.mkdir()
    (folder / "simclr.small.json").write_bytes(text.encode("latin-1"))
    for read in (
        lambda: catalog.results("simclr", folder=folder),
        lambda: catalog.rows(folder=folder),
        lambda: catalog.render_table(folder=folder),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read()
        assert str(folder / "simclr.small.json") in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": ""}, "device must be a text"),
        ({"epochs": "20"}, "epochs must be a finite number"),
        ({"epochs": True}, "epochs must be a finite number"),
        ({"seeds": [0.5, 1, 2]}, "seeds must be a list of whole numbers"),
        ({"seconds": [1.0]}, "3 seeds and 1 seconds"),
        ({"sources": {}}, "sources must be a map"),
        ({"scores": knn([80.0, 81.0, float("nan")], [79.0])}, "finite numbers"),
        ({"scores": knn([80.0, 81.0], [79.0])}, "one value for each of 3 seeds"),
        ({"scores": knn([80.0, 81.0, 82.0], [79.0, 79.0])}, "random has 2 values for 3 seeds"),
        ({"protocols": {"knn": {"id": "x"}}}, "must hold id, metric, unit, higher_is_better"),
        ({"protocols": {"knn": PROTOCOL | {"k": float("nan")}, "linear": PROTOCOL}}, "no JSON can"),
        ({"preset": "paper"}, "it holds simclr.paper"),
        ({"note": "x"}, "unknown keys note"),
        ({"stem": "simclrr"}, "it holds simclrr.small"),
    ],
)
def test_a_wrong_result_is_not_written(
    package: Path, folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = folder / "simclr.small.json"
    catalog.write_result(path, content(package))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        catalog.write_result(path, content(package, **changes))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]


def test_a_write_that_breaks_leaves_the_old_result(
    package: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "simclr.small.json"
    catalog.write_result(path, content(package))
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("unlabeled.catalog.result_files.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        catalog.write_result(path, content(package, epochs=21))
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]


# Rows, table and README --------------------------------------------------------------------------


def test_rows_are_plain_and_complete(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "simclr.small.json", content(package))
    rows = catalog.rows(folder=folder, package=package)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["id"] for row in rows] == list(range(1, 128))
    row = rows[5]
    assert row.keys() == {
        *("id", "stem", "name", "title", "modality", "family", "kind", "status"),
        *("published", "measured"),
    }
    assert (row["stem"], row["status"]) == ("simclr", "measured")
    assert row["published"][0]["value"] == 69.3
    assert row["measured"][1] == {
        "preset": "small",
        "recipe": "encoder",
        "evaluator": "knn",
        "metric": "top-1",
        "unit": "%",
        "value": 85.0,
        "spread": 1.0,
        "floors": {"random": 76.0, "raw": 81.0},
        "seeds": 3,
        "data": "fashion-mnist",
        "encoder": "small resnet",
        "epochs": 20,
        "device": "2 cores",
    }


def test_the_table_has_a_line_a_row_and_names_the_conditions(package: Path, folder: Path) -> None:
    catalog.write_result(folder / "simclr.small.json", content(package, encoder="resnet|8"))
    lines = catalog.render_table(folder=folder, package=package).splitlines()
    assert len(lines) == 2 + 127
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}
    assert lines[2 + 5] == (
        "| 6 | [SimCLR](https://arxiv.org/pdf/2002.05709.pdf) | image | instance | measured "
        "| 69.3 % top-1 (ImageNet, ResNet-50, 1000 epochs, linear) "
        "| 85 ± 1 % knn top-1, random 76, raw 81 (fashion-mnist, resnet\\|8, 20 epochs, small) |"
    )
    assert "unconfirmed" in lines[2 + 14]
    assert "see omeganet" in lines[2 + 94]


def test_the_block_is_replaced_and_nothing_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_block(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    for wrong in ("no markers", f"{BEGIN}", f"{END}{BEGIN}", f"{text}{text}"):
        with pytest.raises(ValueError, match="marked once"):
            replace_block(wrong, "new")


def test_render_mends_what_check_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# unlabeled\n{BEGIN}\nold\n{END}\n")
    assert main(["--check", "--readme", str(readme)]) == 1
    assert "-old" in capsys.readouterr().out
    assert main(["--render", "--readme", str(readme)]) == 0
    assert main(["--check", "--readme", str(readme)]) == 0
    assert capsys.readouterr().out == ""
    readme.write_text("no markers")
    assert main(["--check", "--readme", str(readme)]) == 2
    assert str(readme) in capsys.readouterr().err
    assert main(["--check", "--readme", str(tmp_path / "absent.md")]) == 2


def test_the_readme_holds_the_rendered_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1, "README.md lacks the catalog's markers"
    block = text.partition(BEGIN)[2].partition(END)[0].strip("\n")
    assert block == catalog.render_table(), "run `python -m unlabeled.catalog --render`"


def test_the_catalog_imports_no_torch() -> None:
    code = (
        "import sys; from unlabeled import catalog; catalog.rows();"
        "print(sorted({'torch', 'numpy', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
