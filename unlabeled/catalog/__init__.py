"""The catalog: one card a row of the paper list, what was measured, and the tables of both.

Cards (`papers/<stem>.toml`) are written by hand and hold no measured value; results
(`results/<stem>.<preset>.json`) are written by ``unlabeled bench`` only. A status is computed from
the two and from the files under `methods/` and `studies/`, and never stored. Nothing here imports
torch.
"""

from __future__ import annotations

from unlabeled.catalog.card_files import SCHEME, Card, Deviation, Published, card, cards
from unlabeled.catalog.render import measured_text, published_text, render_table, study_table
from unlabeled.catalog.result_files import Result, results, source_hashes, write_result
from unlabeled.catalog.state import Status, module_path, rows, status

__all__ = [
    "SCHEME",
    "Card",
    "Deviation",
    "Published",
    "Result",
    "Status",
    "card",
    "cards",
    "measured_text",
    "module_path",
    "published_text",
    "render_table",
    "results",
    "rows",
    "source_hashes",
    "status",
    "study_table",
    "write_result",
]
