"""What all tests share."""

from __future__ import annotations

import logging
import os

# tests run side by side, one thread each; spinning thread pools would slow each other down
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _known_state() -> None:
    torch.manual_seed(0)
    # the command line takes the library's log for its console; caplog listens at the root
    log = logging.getLogger("unlabeled")
    log.handlers, log.propagate = [], True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the longest file starts first, so that at the end no worker waits for the one that has it
    items.sort(key=lambda item: item.get_closest_marker("learns") is None)
