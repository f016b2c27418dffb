"""Pictures of a color bitmap font (OpenType tables cmap, GSUB, CBLC, CBDT)."""

from __future__ import annotations

from pathlib import Path
from struct import calcsize, unpack_from
from typing import Any

_VARIATION = 0xFE0F  # asks for the colored form; the font's ligatures leave it out
_METRICS = {17: 5, 18: 8, 19: 0}  # bytes of metrics before a PNG, by the format of its image


class Font:
    """A font whose glyphs are PNG pictures, such as Noto Color Emoji.

    Raises:
        ValueError: the file is no font, or has no pictures of this kind.
    """

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._tables: dict[str, int] = {}
        if len(self._data) > 12:
            (count,) = self._at(">4xH", 0)
            for number in range(count):
                place = 12 + 16 * number
                if place + 16 <= len(self._data):
                    tag, offset = self._at(">4s4xI", place)
                    self._tables[tag.decode("latin-1")] = offset
        missing = {"cmap", "GSUB", "CBLC", "CBDT"} - set(self._tables)
        if missing:
            raise ValueError(f"{path} is no color bitmap font: it lacks {', '.join(missing)}")
        self._glyphs = self._characters()
        self._joined = self._ligatures()
        self._pictures = self._places()

    def picture(self, points: tuple[int, ...]) -> bytes | None:
        """Return the PNG of a sequence of code points, or None if the font has none."""
        glyphs = tuple(self._glyphs.get(point, 0) for point in points if point != _VARIATION)
        glyph = glyphs[0] if len(glyphs) == 1 else self._joined.get(glyphs)
        place = None if glyph is None else self._pictures.get(glyph)
        if place is None:
            return None
        start, kind = place
        start += _METRICS[kind]
        (length,) = self._at(">I", start)
        return self._data[start + 4 : start + 4 + length]

    def _at(self, form: str, place: int) -> tuple[Any, ...]:
        return unpack_from(form, self._data, place)

    def _numbers(self, place: int, count: int, size: str = "H") -> tuple[int, ...]:
        return self._at(f">{count}{size}", place)

    def _characters(self) -> dict[int, int]:
        """Code point -> glyph, of the subtable for all of Unicode (format 12)."""
        base, found = self._tables["cmap"], {}
        (count,) = self._at(">2xH", base)
        for number in range(count):
            (offset,) = self._at(">4xI", base + 4 + 8 * number)
            table = base + offset
            if self._at(">H", table) != (12,):
                continue
            (groups,) = self._at(">I", table + 12)
            for group in range(groups):
                first, last, glyph = self._at(">III", table + 16 + 12 * group)
                found.update({first + step: glyph + step for step in range(last - first + 1)})
        return found

    def _ligatures(self) -> dict[tuple[int, ...], int]:
        """Sequence of glyphs -> the one that stands for it (lookups of type 4)."""
        base = self._tables["GSUB"]
        (lists,) = self._at(">8xH", base)
        lookups = base + lists
        (count,) = self._at(">H", lookups)
        found: dict[tuple[int, ...], int] = {}
        for offset in self._numbers(lookups + 2, count):
            lookup = lookups + offset
            kind, _, parts = self._at(">HHH", lookup)
            for part in self._numbers(lookup + 6, parts):
                table, inner = lookup + part, kind
                if kind == 7:  # a pointer to a table further away
                    inner, far = self._at(">2xHI", table)
                    table += far
                if inner == 4:
                    found.update(self._ligature_table(table))
        return found

    def _ligature_table(self, table: int) -> dict[tuple[int, ...], int]:
        covers, sets = self._at(">2xHH", table)
        firsts = self._covered(table + covers)
        found = {}
        for first, offset in zip(firsts, self._numbers(table + 6, sets), strict=True):
            group = table + offset
            (count,) = self._at(">H", group)
            for place in self._numbers(group + 2, count):
                glyph, length = self._at(">HH", group + place)
                rest = self._numbers(group + place + 4, length - 1)
                found[(first, *rest)] = glyph
        return found

    def _covered(self, table: int) -> list[int]:
        form, count = self._at(">HH", table)
        if form == 1:
            return list(self._numbers(table + 4, count))
        glyphs: list[int] = []
        for number in range(count):
            first, last = self._at(">HH", table + 4 + 6 * number)
            glyphs += range(first, last + 1)
        return glyphs

    def _places(self) -> dict[int, tuple[int, int]]:
        """Glyph -> (place in the file, format of its image), of the first size in the font."""
        base, images = self._tables["CBLC"], self._tables["CBDT"]
        array, count = self._at(">8xI4xI", base)
        found = {}
        for number in range(count):
            first, last, more = self._at(">HHI", base + array + 8 * number)
            header = base + array + more
            form, kind, start = self._at(">HHI", header)
            if form not in (1, 3) or kind not in _METRICS:
                continue
            size = "I" if form == 1 else "H"
            offsets = self._numbers(header + calcsize(">HHI"), last - first + 2, size)
            for step in range(last - first + 1):
                if offsets[step] < offsets[step + 1]:
                    found[first + step] = (images + start + offsets[step], kind)
        return found
