#!/bin/sh
# Install Framegrid with the named extras into a virtual environment: sh local/setup.sh VENV EXTRA...
# Needs Python 3.10 or newer with venv, and PyPI. UV_VERSION pins the installer; PYTHON names an interpreter.
set -eu

venv=$1
shift
extras=$(echo "$*" | tr ' ' ',')

say() { printf '%s\n' "$*" >&2; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null) || found=none
    say "Framegrid needs Python 3.10 or newer; found: $found"
    say "Install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3"
    exit 1
}

if ! [ -x "$venv/bin/python" ]; then
    python=$(find_python)
    say "Creating $venv with $("$python" --version)"
    if ! message=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        printf '%s\n' "$message" | sed 's/^/  | /' >&2
        say "$python cannot make a virtual environment. Debian and Ubuntu: apt install python3-venv"
        exit 1
    fi
fi
new_enough "$venv/bin/python" || { say "$venv holds a Python older than 3.10; delete it: rm -rf $venv"; exit 1; }

if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d ' ' -f 2)" != "$UV_VERSION" ]; then
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi

say "Installing framegrid[$extras] (the first time this fetches some hundred megabytes)"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --editable ".[$extras]"
for extra in "$@"; do
    touch "$venv/.setup-$extra"
done
say "Ready: $venv/bin/framegrid"
