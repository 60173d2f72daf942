#!/usr/bin/env bash
# Makes the plain role "app"; run once, as superuser, before the schema. POSTGRES_USER would
# not do: the image makes that one a superuser, who is let in past the application's limit.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat "$LAB_APP_PASSWORD_FILE"`
CREATE ROLE app LOGIN PASSWORD :'password';
SQL
