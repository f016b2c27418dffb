#!/bin/sh
# Make .venv and install the checkout into it. Debian splits ensurepip off into python3-venv, so
# without it the system's pip installs into the environment from outside.
set -eu
python=$1 what=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$python" --version) is too old: use Python 3.11 or newer (make PYTHON=python3.12 ...)" >&2
    exit 1
}
if [ ! -x .venv/bin/python ]; then
    echo "making .venv (torch's packages are about 5 GB on disk, one to three minutes) ..."
    "$python" -m venv .venv 2>/dev/null || "$python" -m venv --without-pip --clear .venv
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
if .venv/bin/python -m pip --version >/dev/null 2>&1; then
    .venv/bin/python -m pip install --quiet -e "$what"
else
    "$python" -m pip --python .venv/bin/python install --quiet -e "$what"
fi
