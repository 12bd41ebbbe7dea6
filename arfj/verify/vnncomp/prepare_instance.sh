#!/usr/bin/env bash
# VNN-COMP: check that the instance can be read; nothing is converted and nothing is kept between instances.
# usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
set -euo pipefail

if [[ $# -ne 4 || $1 != v1 ]]; then
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 2
fi

for file in "$3" "$4"; do
    if [[ ! -r $file ]]; then
        echo "$file cannot be read; give the path of an existing file" >&2
        exit 1
    fi
done
