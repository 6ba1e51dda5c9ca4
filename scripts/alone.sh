#!/bin/sh
# Builds and vets every module as if the workspace were not there: an image is
# built that way, and an import that no go.mod declares is found here.
set -eu

cd "$(dirname "$0")/.."
for module in $(go list -m -f '{{.Dir}}'); do
	echo "alone: ${module#"$PWD"/}"
	(cd "$module" && GOWORK=off go build ./... && GOWORK=off go vet ./...)
done
