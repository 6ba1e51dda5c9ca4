#!/bin/sh
# Installs what others wrote and our tests compare with, from its lock file, into
# the cache, and prints the directory. A second call is instant. Needs node and npm.
#
#   peers.sh          a SCIM server of the stories
#   peers.sh betterauth   another one
#   peers.sh oracle   the PATCH that scimtest is compared with
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
name=${1:-scimmy}
case $name in
  scimmy) source=$here/services/rollcall/stories/scimmy ;;
  betterauth) source=$here/services/rollcall/stories/betterauth ;;
  oracle) source=$here/pkg/scim/scimtest/oracle ;;
  *) echo "there is no $name: say scimmy, betterauth or oracle" >&2; exit 2 ;;
esac
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or later (Debian: apt-get install nodejs npm)" >&2; exit 1; }
hash=$(cat "$source/package-lock.json" "$source/server.mjs" | sha256sum | cut -c1-16)
dir=$cache/$name-$hash
if [ ! -d "$dir" ]; then
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/$name.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  cp "$source/package.json" "$source/package-lock.json" "$source/server.mjs" "$fresh/"
  (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund) >&2
  mv "$fresh" "$dir" 2>/dev/null || [ -d "$dir" ] # another call may have been faster
  trap - EXIT
  rm -rf "$fresh"
fi
echo "$dir"
