#!/bin/sh
# Brings every go.mod, go.sum and the workspace into line: the same go line
# everywhere, the workspace's versions in each module, nothing unused.
set -eu

cd "$(dirname "$0")/.."
version=$(sed -n 's/^go //p' go.work)
modules=$(go list -m -f '{{.Dir}}')
for module in $modules; do
	go mod edit -go="$version" -toolchain=none "$module/go.mod"
done
go work sync
for module in $modules; do
	(cd "$module" && go mod tidy)
done
# Those outside of the workspace stand for themselves.
for module in scripts/tools deploy/helm/verify services/rollcall/stories/elimity; do
	(cd "$module" && GOWORK=off go mod edit -go="$version" -toolchain=none && GOWORK=off go mod tidy)
done
