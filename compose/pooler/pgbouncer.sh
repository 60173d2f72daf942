#!/bin/sh
# Runs PgBouncer with pgbouncer.ini, its variables filled in from the environment, and the users
# that its passwords' files make. What it writes lies in its own folder in memory.
set -eu
umask 077

if [ "$LAB_POOLER" = off ]; then
  echo "pgbouncer: LAB_POOLER is off - set it to transaction or session" >&2
  exit 1
fi

folder=$LAB_POOLER_SOCKET_DIR
{
  printf '"postgres" "%s"\n' "$(cat "$LAB_POSTGRES_PASSWORD_FILE")"
  printf '"app" "%s"\n' "$(cat "$LAB_APP_PASSWORD_FILE")"
} >"$LAB_POOLER_USERS"
eval "cat <<END
$(cat /pooler/pgbouncer.ini)
END" >"$folder/pgbouncer.ini"
exec pgbouncer "$folder/pgbouncer.ini"
