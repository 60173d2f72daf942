#!/bin/sh
# Runs a command with the settings of now: those in /settings/now.env go before the container's
# own. The lab writes that file from cell to cell and starts the container again, as it is;
# by hand there is none, and the container has what Compose gave it.
set -eu

if [ -e /settings/now.env ]; then
  set -a
  # shellcheck source=/dev/null
  . /settings/now.env
  set +a
fi
exec "$@"
