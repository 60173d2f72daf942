#!/usr/bin/env bash
# Makes the database where there is none yet, then runs the command.
# Obeys what the official image documents: POSTGRES_PASSWORD, _USER, _DB, each also as _FILE,
# POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d.
set -euo pipefail

# The value of a variable, or of the file that its _FILE names, or a default.
setting() {
  local name=$1 default=${2:-} file=$1_FILE
  if [[ -n ${!file:-} ]]; then
    cat "${!file}"
  else
    echo "${!name:-$default}"
  fi
}

run_sql() {
  psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc --username "$POSTGRES_USER" "$@"
}

make_cluster() {
  local arguments
  declare -a arguments="(${POSTGRES_INITDB_ARGS:-})"
  initdb --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") \
    --pgdata "$PGDATA" --set "listen_addresses=*" \
    --set unix_socket_directories=/var/run/postgresql "${arguments[@]}"
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

run_init_scripts() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        echo "$0: running $file"
        # shellcheck source=/dev/null
        if [[ -x $file ]]; then "$file"; else . "$file"; fi
        ;;
      *.sql)
        echo "$0: running $file"
        run_sql --dbname "$POSTGRES_DB" --file "$file"
        ;;
      *) [[ ! -e $file ]] || echo "$0: ignoring $file" ;;
    esac
  done
}

# The server of this phase listens on its socket only, so nobody meets a half-made database.
make_database() {
  POSTGRES_PASSWORD=$(setting POSTGRES_PASSWORD)
  POSTGRES_USER=$(setting POSTGRES_USER postgres)
  POSTGRES_DB=$(setting POSTGRES_DB "$POSTGRES_USER")
  export POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB
  export PGPASSWORD=$POSTGRES_PASSWORD # for psql here and in the init scripts
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [[ -z $POSTGRES_PASSWORD && $method != trust ]]; then
    echo "Error: Database is uninitialized and superuser password is not specified." \
      "Set POSTGRES_PASSWORD to a non-empty value." >&2
    exit 1
  fi
  make_cluster
  pg_ctl --pgdata "$PGDATA" --wait start \
    --options "$(printf '%q ' "$@" -c "listen_addresses=")"
  if [[ $POSTGRES_DB != postgres ]]; then
    run_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
  run_init_scripts
  pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
  unset PGPASSWORD
  echo
  echo "PostgreSQL init process complete; ready for start up."
  echo
}

if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
if [[ ${1:-} == postgres ]]; then
  if [[ $(id -u) == 0 ]]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    chown postgres: "$(dirname "$PGDATA")" /var/run/postgresql
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
  fi
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  [[ -s $PGDATA/PG_VERSION ]] || make_database "${@:2}"
fi

exec "$@"
