#!/bin/bash
# Runs a command of `python -m dev` that ends things or tells of them ($3), with the environment at $2 as it is: stale
# or not, nothing is installed for it. Where nothing was ever started there need not be one. Only for what
# outlived their environment it is made again, with the Python $1.
set -euo pipefail
python=$1 venv=$2 command=$3
folder=$(dirname "$venv")

if ! "$venv/bin/python" -c 'import dev.__main__' 2>/dev/null; then
    shopt -s nullglob
    left=("$folder"/run/*.pid "$folder"/*/run/*.pid "$folder"/*/.local/run/*.pid "$folder"/kind/ports/*)
    if [ ${#left[@]} = 0 ]; then
        echo "Nothing runs."
        exit 0
    fi
    dev/venv.sh "$python" "$venv"
fi
exec "$venv/bin/python" -m dev "$command"
