#!/bin/sh
# Installs the SCIM server that others wrote, from its lock file, into the cache,
# and prints the directory. A second call is instant. Needs node and npm.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
source=$here/services/rollcall/stories/scimmy
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or later (Debian: apt-get install nodejs npm)" >&2; exit 1; }
hash=$(cat "$source/package-lock.json" "$source/server.mjs" | sha256sum | cut -c1-16)
dir=$cache/scimmy-$hash
if [ ! -d "$dir" ]; then
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/scimmy.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  cp "$source/package.json" "$source/package-lock.json" "$source/server.mjs" "$fresh/"
  (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund) >&2
  mv "$fresh" "$dir" 2>/dev/null || [ -d "$dir" ] # another call may have been faster
  trap - EXIT
  rm -rf "$fresh"
fi
echo "$dir"
