#!/bin/sh
# Builds KEDA from deploy/keda into the cache, with the objects that run it, and prints
# their directory: keda, keda-adapter, keda.yaml. The directory is named by what they
# are made of; a second call is instant. Progress goes to stderr.
set -eu

cd "$(dirname "$0")/../deploy/keda"
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
hash=$({ go env GOVERSION GOARCH; cat go.mod go.sum ../../scripts/keda.sh; } | git hash-object --stdin | cut -c 1-12)
out=$cache/keda-$hash

if [ -e "$out/.complete" ]; then
	echo "$out"
	exit 0
fi
echo "keda.sh: building KEDA, once: some minutes" >&2
kubectl=$(../../scripts/cluster.sh)/kubectl
mkdir -p "$cache"
if command -v flock >/dev/null; then # two of us would do the work twice
	exec 9>"$out.lock"
	flock 9
	[ ! -e "$out/.complete" ] || { echo "$out"; exit 0; }
fi
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
module=github.com/kedacore/keda/v2
for part in operator:keda adapter:keda-adapter; do
	GOWORK=off GOFLAGS='' CGO_ENABLED=0 nice -n 19 go build -trimpath -gcflags=all=-dwarf=false -ldflags '-s -w' \
		-o "$work/${part#*:}" "$module/cmd/${part%:*}" >&2
done
source=$(GOWORK=off go list -m -f '{{.Dir}}' $module)
"$kubectl" kustomize "$source/config/minimal" >"$work/objects.yaml"
sed -e 's|ghcr.io/kedacore/keda-metrics-apiserver:.*|localhost/keda-adapter:test|' \
	-e 's|ghcr.io/kedacore/keda:.*|localhost/keda:test|' -e 's|imagePullPolicy: Always|imagePullPolicy: Never|' "$work/objects.yaml" >"$work/keda.yaml"
grep -q localhost/keda:test "$work/keda.yaml"
grep -q localhost/keda-adapter:test "$work/keda.yaml"
touch "$work/.complete"
rm -rf "$out"
mv "$work" "$out"
echo "$out"
