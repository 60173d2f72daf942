#!/usr/bin/env bash
# Fills in /etc/nginx/templates/*.template, as in the official image: only variables that are
# defined (and match NGINX_ENVSUBST_FILTER) are replaced, so nginx's own $variables stay.
set -euo pipefail

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
filter=${NGINX_ENVSUBST_FILTER:-}

[[ -d $templates ]] || exit 0
if [[ ! -w $output ]]; then
  echo "$0: $templates exists, but $output is not writable" >&2
  exit 0
fi

defined=""
while IFS= read -r name; do
  if [[ $name =~ $filter ]]; then defined+="\${$name} "; fi
done < <(compgen -e)

while IFS= read -r -d '' template; do
  relative=${template#"$templates"/}
  target=$output/${relative%"$suffix"}
  mkdir -p "$(dirname "$target")"
  envsubst "$defined" <"$template" >"$target"
done < <(find "$templates" -follow -type f -name "*$suffix" -print0)
