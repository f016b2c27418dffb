from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest

from unlabeled.data.names import Names

ODD = ["a/b.jpg", "", "日本/é.png", os.fsdecode(b"not \xff utf-8.png"), "a\nb", "x" * 300]


def test_names_come_back_as_they_were():
    names = Names.of(iter(ODD))
    assert len(names) == len(ODD)
    assert list(names) == ODD
    assert [names[place] for place in range(-len(ODD), len(ODD))] == ODD + ODD
    assert list(names[1:4]) == ODD[1:4]
    assert list(names[::-2]) == ODD[::-2]
    assert ODD[2] in names
    with pytest.raises(IndexError):
        names[len(ODD)]


def test_there_may_be_none():
    names = Names.of([])
    assert len(names) == 0
    assert list(names) == []
    assert not names


def test_ends_must_fit_the_blob():
    with pytest.raises(ValueError, match=r"names take 3 bytes, ends are \[4\]"):
        Names(np.zeros(3, np.uint8), np.array([4]))


def test_a_hundred_thousand_names_take_their_length_and_eight_bytes():
    tracemalloc.start()
    try:
        names = Names.of(f"class{place // 100:04}/image{place:07}.jpg" for place in range(100_000))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < 1.3 * (len(names[0]) + 8) * len(names)
