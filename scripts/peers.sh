#!/bin/sh
# Installs what others wrote and our tests compare with, from its lock file, into
# the cache, and prints the directory. A second call is instant. Needs node and npm, or
# go for what is written in Go.
#
#   peers.sh          a SCIM server of the stories
#   peers.sh betterauth|jackson|elimity   another one
#   peers.sh oracle   the PATCH that scimtest is compared with
#
# A server of the stories is the program `server` in that directory.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
name=${1:-scimmy}
case $name in
  scimmy | betterauth | jackson | elimity) source=$here/services/rollcall/stories/$name ;;
  oracle) source=$here/pkg/scim/scimtest/oracle ;;
  *) echo "there is no $name: say scimmy, betterauth, jackson, elimity or oracle" >&2; exit 2 ;;
esac
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
hash=$(cat "$0" "$source"/*.* | sha256sum | cut -c1-16)
dir=$cache/$name-$hash
if [ -d "$dir" ]; then
  echo "$dir"
  exit
fi
mkdir -p "$cache"
fresh=$(mktemp -d "$cache/$name.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
if [ -f "$source/go.mod" ]; then
  GOWORK=off go -C "$source" build -o "$fresh/server" . >&2
else
  command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or later (Debian: apt-get install nodejs npm)" >&2; exit 1; }
  cp "$source"/*.* "$fresh/"
  (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund) >&2
  # shellcheck disable=SC2016 # the program expands it
  printf '#!/bin/sh\nexec node "$(dirname "$0")/server.mjs"\n' >"$fresh/server"
  chmod +x "$fresh/server"
fi
mv "$fresh" "$dir" 2>/dev/null || [ -d "$dir" ] # another call may have been faster
trap - EXIT
rm -rf "$fresh"
echo "$dir"
