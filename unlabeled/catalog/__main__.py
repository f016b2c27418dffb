"""`python -m unlabeled.catalog --render | --check`: keep the table of README.md in step."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path

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
    try:
        old = readme.read_text(encoding="utf-8")
        new = replace_block(old, render_table())
    except (OSError, ValueError) as error:
        print(f"{readme}: {error}", file=sys.stderr)
        return 2
    if options.render:
        readme.write_text(new, encoding="utf-8")
        return 0
    difference = unified_diff(
        old.splitlines(), new.splitlines(), str(readme), "rendered", lineterm="", n=0
    )
    lines = list(difference)
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
