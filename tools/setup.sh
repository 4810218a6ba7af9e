#!/bin/sh
# Make a virtual environment with kzoo in it.
#
#     sh tools/setup.sh          what is needed to use the zoo
#     sh tools/setup.sh test     and to test it
#
# VENV names the folder (.venv), PYTHON the interpreter (python3).
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade pip
"$venv/bin/python" -m pip install --quiet --editable ".${1:+[$1]}"
# TensorFlow is 4,000 modules: compiled once here, not at every start where bytecode is not written.
"$venv/bin/python" -m compileall -q "$venv/lib" || true
