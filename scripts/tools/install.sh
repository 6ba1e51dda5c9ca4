#!/bin/sh
# Installs pinned build tools into the cache, and nowhere else.
#
#   install.sh --dir           prints the directory of the tools
#   install.sh buf helm ...    installs what is missing there
#
# The directory is named by the pins: other pins are other tools, side by side.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
# shellcheck source=scripts/tools/versions
. "$here/versions"
PROTOBUF=$(sed -n 's/^.*google.golang.org\/protobuf \(v[^ ]*\).*$/\1/p' "$root/proto/go.mod" | head -n 1)

pins=$(printf '%s\n' "$GOLANGCI_LINT" "$HELM" "$PROTOBUF" "$(go env GOVERSION)" | cat - "$here/package-lock.json" | git hash-object --stdin | cut -c 1-12)
tools=$cache/tools-$pins

say() { echo "tools: $*" >&2; }

# from_go builds PACKAGE@VERSION, without the workspace and without touching GOBIN.
from_go() {
	(cd "$work" && GOWORK=off GOBIN=$work GOFLAGS='' go install "$1") >"$work/log" 2>&1 ||
		{ cat "$work/log" >&2; say "$1 could not be built"; return 1; }
}

from_npm() {
	cp "$here/package.json" "$here/package-lock.json" "$work/"
	npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund >"$work/log" 2>&1 ||
		{ cat "$work/log" >&2; say "the npm tools could not be installed"; return 1; }
	rm -rf "$tools/node_modules"
	mv "$work/node_modules" "$tools/node_modules"
}

install() {
	work=$(mktemp -d "$tools/.XXXXXX")
	case $1 in
	buf)
		from_npm
		ln -s ../node_modules/.bin/buf "$work/buf"
		;;
	golangci-lint) from_go "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT" ;;
	helm) from_go "helm.sh/helm/${HELM%%.*}/cmd/helm@$HELM" ;;
	protoc-gen-go) from_go "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOBUF" ;;
	*)
		say "unknown tool $1"
		return 1
		;;
	esac
	mv "$work/$1" "$tools/bin/$1"
	rm -rf "$work"
	work=
}

if [ "${1-}" = --dir ]; then
	echo "$tools/bin"
	exit 0
fi
mkdir -p "$tools/bin"
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
for tool; do
	[ ! -x "$tools/bin/$tool" ] || continue
	if command -v flock >/dev/null; then # two of us would do the work twice
		exec 9>"$tools/$tool.lock"
		flock 9
		[ ! -x "$tools/bin/$tool" ] || continue
	fi
	say "installing $tool"
	install "$tool"
done
