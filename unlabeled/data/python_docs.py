"""PythonDocs: the documentation that comes with the interpreter, real English prose."""

from __future__ import annotations

import ast
import sysconfig
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unlabeled.data.texts import Document, TextSource

KINDS, FEWEST = 8, 12
SHORTEST = 120
SKIPPED = ("test", "tests", "idlelib", "site-packages", "dist-packages", "lib2to3", "__pycache__")


@dataclass(frozen=True)
class PythonDocs(TextSource):
    """The language reference's topics, and the docstrings of the standard library.

    A document is a topic or a module with all its docstrings. Labels: the eight packages with the
    most text of those with twelve modules or more, and the language reference. Texts and packages
    differ a little between versions of Python.

    Args:
        vocabulary_size: entries at most.
        length: tokens of a piece.
    """

    vocabulary_size: int = 2048
    length: int = 64

    @property
    def name(self) -> str:
        """``python-docs``."""
        return "python-docs"

    @property
    def sizes(self) -> tuple[int, int]:
        """As given."""
        return self.vocabulary_size, self.length

    @property
    def classes(self) -> tuple[str, ...]:
        """Packages, and ``reference``."""
        return _documents()[1]

    @property
    def documents(self) -> Sequence[Document]:
        """Topics and modules."""
        return _documents()[0]


@lru_cache(maxsize=1)
def _documents() -> tuple[list[Document], tuple[str, ...]]:
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_paths()["stdlib"])
    modules: list[tuple[str, str, str]] = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if any(part in SKIPPED for part in place.parts):
            continue
        text = _docstrings(path)
        if len(text) >= SHORTEST:
            modules.append((place.parts[0].removesuffix(".py"), place.as_posix(), text))
    size: Counter[str] = Counter()
    for package, _, text in modules:
        size[package] += len(text)
    number = Counter(package for package, _, _ in modules)
    # a document is on one side of the split: a class needs several
    large = [name for name, _ in size.most_common() if number[name] >= FEWEST]
    kept = sorted(large[:KINDS])
    names = (*kept, "reference")
    found = [
        Document(place, text, kept.index(package))
        for package, place, text in modules
        if package in kept
    ]
    reference = [Document(f"topic/{key}", text, len(kept)) for key, text in sorted(topics.items())]
    return found + reference, names


def _docstrings(path: Path) -> str:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in found if text and len(text.split()) > 5)
