"""What all tests share."""

from __future__ import annotations

import os

os.environ.setdefault("UNLABELED_DATA", os.path.expanduser("~/.cache/unlabeled"))

import pytest
import torch


@pytest.fixture(autouse=True)
def _known_state() -> None:
    torch.manual_seed(0)
