#!/bin/bash
# Makes the virtual environment at $2 with the Python $1: uv first (by pip, hashes checked), then everything else by uv.
set -euo pipefail
python=$1 venv=$2

say() { echo "           ...     $*"; }

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || {
    echo "Python 3.11 is needed and $python is not it: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

# A bare Debian has Python without the module that makes virtual environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Python's venv module is missing: install the package python3-venv." >&2
        exit 1
    fi
    say "installing python3-venv with apt"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends python3-venv >/dev/null
fi

say "installing the tools into $venv"
"$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet --require-hashes -r requirements/bootstrap.txt

# uv does not read pip's configuration: a mirror set there, and the machine's own certificates, must hold for it too.
export UV_SYSTEM_CERTS=1
index=$("${pip[@]}" config get :env:.index-url 2>/dev/null || "${pip[@]}" config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
uv=("$venv/bin/uv" pip)
"${uv[@]}" sync --quiet --python "$venv/bin/python" --require-hashes requirements/dev.txt
"${uv[@]}" install --quiet --python "$venv/bin/python" --no-deps \
    --editable operator --editable server --editable localcloud
