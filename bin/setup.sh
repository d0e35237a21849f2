#!/bin/sh
# setup.sh PYTHON VENV: a virtual environment with all that the project needs, from its own list of versions.
set -eu
python=$1 venv=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed, and $python is $("$python" --version 2>&1): on Debian 12, apt-get install python3" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv >/dev/null
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing Python packages into $venv (about half a minute)"
"$venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt '.[dev]'
for name in invoke inv; do
    { echo "#!$(cd "$venv/bin" && pwd)/python3"; cat bin/invoke_start.py; } >"$venv/bin/$name.new"
    chmod 755 "$venv/bin/$name.new"
    mv "$venv/bin/$name.new" "$venv/bin/$name" # atomically: another one may start meanwhile
done
