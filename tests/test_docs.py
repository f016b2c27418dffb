"""The documentation's Python runs as it stands, in one session, on a folder of photos."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabeled.evaluators.named import NAMED, SIZED

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "README.md", ROOT / "docs" / "guide.md")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 255, (36, 40, 3), np.uint8)
            pixels[..., 0 if name == "cats" else 2] //= 4
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_python_blocks_run(path, photos):
    assert blocks(path)
    names: dict[str, object] = {}
    for block in blocks(path):
        code = block.replace("epochs=20", "epochs=1").replace('encoder="timm/resnet18", ', "")
        exec(compile(code, path.name, "exec"), names)


def test_every_linked_file_exists():
    for path in [*DOCS, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_page_on_evaluation_lists_every_protocol():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    table = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == {*SIZED, *NAMED}


def test_the_readme_shows_the_tree_that_is_there():
    shown = re.findall(r"^  (\w+/|\w+\.py)  ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(shown) > 15
    for name in shown:
        assert (ROOT / "unlabeled" / name).exists(), name


def test_commands_of_the_docs_exist():
    from unlabeled.cli import app
    from unlabeled.commands.datasets import data_app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {"data"}
    inner = {command.name for command in data_app.registered_commands}
    for path in DOCS:
        for line in re.findall(r"unlabeled ([a-z]+) ?([a-z]*)", path.read_text()):
            if line[0] in known:
                assert line[0] != "data" or not line[1] or line[1] in {*inner, "or"}, line
