"""TextFiles: text files of the user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unlabeled.data.texts import Document, TextSource

SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True)
class TextFiles(TextSource):
    """A text file, whose paragraphs are documents, or a folder of .txt, .md and .rst files.

    A folder of folders labels each file by the folder at the top. Files are UTF-8; bytes that are
    not are replaced.

    Args:
        path: the file or folder.
        vocabulary_size: entries at most.
        length: tokens of a piece.

    Raises:
        FileNotFoundError: no such path, at the first use.
        ValueError: no text.
    """

    path: str
    vocabulary_size: int = 4096
    length: int = 64

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return Path(self.path).resolve().name

    @property
    def sizes(self) -> tuple[int, int]:
        """As given."""
        return self.vocabulary_size, self.length

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The folders at the top, where every file is in one."""
        return _documents(self.path)[1]

    @property
    def documents(self) -> Sequence[Document]:
        """Paragraphs of a file, or files."""
        return _documents(self.path)[0]


def list_texts(folder: str) -> list[str]:
    """Return the text files below a folder, as sorted relative paths."""
    return sorted(
        os.path.relpath(os.path.join(place, file), folder)
        for place, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(SUFFIXES)
    )


@lru_cache(maxsize=4)
def _documents(path: str) -> tuple[list[Document], tuple[str, ...] | None]:
    if os.path.isfile(path):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        if not parts:
            raise ValueError(f"{path} has no text")
        return [Document(str(number), part) for number, part in enumerate(parts)], None
    if not os.path.isdir(path):
        raise FileNotFoundError(f"{path} does not exist: give a text file or a folder of them")
    files = list_texts(path)
    if not files:
        raise ValueError(f"{path} holds no text files: known are {' '.join(SUFFIXES)}")
    tops = [file.split(os.sep, 1)[0] if os.sep in file else "" for file in files]
    names = tuple(sorted(set(tops)))
    labeled = "" not in tops and len(names) > 1
    found = [
        Document(
            file,
            (Path(path) / file).read_text(encoding="utf-8", errors="replace"),
            names.index(top) if labeled else None,
        )
        for file, top in zip(files, tops, strict=True)
    ]
    return found, names if labeled else None
