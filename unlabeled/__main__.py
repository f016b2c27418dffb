"""``python -m unlabeled`` is the ``unlabeled`` command, for torchrun."""

from unlabeled.cli import main

main()
