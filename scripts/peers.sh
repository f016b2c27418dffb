#!/bin/sh
# Make an environment that sees the library and torch of .venv and adds the peers of a requirements
# file: scripts/peers.sh .venv-peers benchmarks/requirements-peers.txt
set -eu
place=$1 requirements=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ ! -x "$place/bin/python" ]; then
    echo "making $place with the peers ..."
    .venv/bin/python -m venv "$place" 2>/dev/null ||
        .venv/bin/python -m venv --without-pip --clear "$place"
    "$place/bin/python" - "$PWD/.venv" "$place" <<'PYTHON'
import pathlib, sys
here, place = map(pathlib.Path, sys.argv[1:])
base = next(here.glob("lib/python*/site-packages"))
(next(place.glob("lib/python*/site-packages")) / "unlabeled-base.pth").write_text(f"{base}\n")
PYTHON
fi
if .venv/bin/python -m pip --version >/dev/null 2>&1; then
    pip=".venv/bin/python -m pip"
else
    pip="python3 -m pip"
fi
# what .venv has stays as it is there: the peers are measured with the same torch
$pip --python .venv/bin/python freeze --exclude-editable > "$place/constraints.txt"
$pip --python "$place/bin/python" install --quiet -c "$place/constraints.txt" -r "$requirements" ||
    echo "some peers cannot be installed here: their rows will name them as absent" >&2
