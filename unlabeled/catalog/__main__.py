"""`python -m unlabeled.catalog --render | --check`: keep the tables of README and docs in step."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path

from unlabeled.catalog.board import render_board, render_studies
from unlabeled.catalog.render import render_table, replace_block
from unlabeled.catalog.result_files import PACKAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the block; return 1 where the check finds a difference, 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m unlabeled.catalog", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--render", action="store_true", help="rewrite the table")
    action.add_argument("--check", action="store_true", help="show how it is out of date")
    parser.add_argument("--readme", type=Path, default=PACKAGE.parent / "README.md")
    options = parser.parse_args(arguments)
    readme: Path = options.readme
    differs = False
    try:
        pages = {readme: replace_block(readme.read_text(encoding="utf-8"), render_table())}
        if readme.name == "README.md" and readme.parent == PACKAGE.parent:
            docs = readme.parent / "docs"
            pages |= {docs / "board.md": render_board(), docs / "studies.md": render_studies()}
        for path, new in pages.items():
            old = path.read_text(encoding="utf-8") if path.is_file() else ""
            if options.render:
                path.write_text(new, encoding="utf-8")
                continue
            difference = unified_diff(
                old.splitlines(), new.splitlines(), str(path), "rendered", lineterm="", n=0
            )
            lines = list(difference)
            print("\n".join(lines), end="\n" if lines else "")
            differs = differs or bool(lines)
    except (OSError, ValueError) as error:
        print(f"{readme}: {error}", file=sys.stderr)
        return 2
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
