#!/usr/bin/env bash
# VNN-COMP: verify one instance and write RESULTS; the status is that of the command (0: answered, whatever the answer).
# usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS SECONDS
set -euo pipefail

if [[ $# -ne 6 || $1 != v1 ]]; then
    echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS SECONDS" >&2
    exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
python=$root/.venv/bin/python
if [[ ! -x $python ]]; then
    python=${PYTHON:-python3}
fi
if [[ -f $5 ]]; then
    rm -f -- "$(readlink -f -- "$5")" # an older answer must not stand for this one if the command fails
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m arfj.verify "$3" "$4" --time-limit "$6" --results "$5"
