#!/usr/bin/env bash
# VNN-COMP: make the environment .venv at the root of the checkout. Where the package is installed already, it is used.
# usage: install_tool.sh v1
set -euo pipefail

if [[ $# -ne 1 || $1 != v1 ]]; then
    echo "usage: install_tool.sh v1" >&2
    exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
if [[ ! -f $root/setup.cfg ]]; then
    echo "no checkout at $root: nothing to install, arfj is an installed package" >&2
    exit 0
fi
if [[ ! -x $root/.venv/bin/python ]]; then
    "${PYTHON:-python3}" -m venv "$root/.venv"
fi
"$root/.venv/bin/python" -m pip install --quiet --editable "${root}[verify,gpu]"
