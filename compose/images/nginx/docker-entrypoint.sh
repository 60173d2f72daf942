#!/usr/bin/env bash
# Runs the scripts of /docker-entrypoint.d in the order of their names, then the command.
# As in the official image: *.envsh are sourced, *.sh are run, both only if executable, and
# only before nginx itself.
set -euo pipefail

say() {
  [[ -n ${NGINX_ENTRYPOINT_QUIET_LOGS:-} ]] || echo "$0: $*"
}

if [[ ${1:-} == nginx ]]; then
  while IFS= read -r -d '' script; do
    if [[ ! -x $script ]]; then
      say "ignoring $script, not executable"
    elif [[ $script == *.envsh ]]; then
      say "sourcing $script"
      # shellcheck source=/dev/null
      . "$script"
    elif [[ $script == *.sh ]]; then
      say "running $script"
      "$script"
    else
      say "ignoring $script"
    fi
  done < <(find /docker-entrypoint.d -follow -type f -print0 | sort --zero-terminated --version-sort)
fi

exec "$@"
