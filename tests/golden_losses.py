"""Write tests/golden/<stem>.json: the first losses of each tiny recipe (`make golden`).

``python -m tests.golden_losses STEM ...`` writes those of some.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.test_conformance import GOLDEN, STEMS, golden_losses

if __name__ == "__main__":
    for stem in sys.argv[1:] or STEMS:
        with tempfile.TemporaryDirectory() as folder:
            losses = [round(value, 6) for value in golden_losses(stem, Path(folder))]
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / f"{stem}.json").write_text(json.dumps({"losses": losses}) + "\n")
        print(stem, losses)
