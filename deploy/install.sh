#!/bin/sh
# Makes a virtual environment with the pinned dependencies and this package in it: install.sh PYTHON VENV LOCK.
# Needs python3 with venv and pip only; uv is used where present, as it is several times quicker.
set -eu
python=$1 venv=$2 lock=$3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pushfleet needs Python >= 3.11; this is $("$python" --version). Try: make PYTHON=python3.12" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing the pinned dependencies into $venv"
if command -v uv >/dev/null 2>&1; then
  uv pip install --quiet --python "$venv/bin/python" --require-hashes -r "$lock"
  uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
