#!/bin/sh
# Writes the schema of the chart's values (its own part, and the schema of
# rollcall.yaml as the program prints it) and their reference in the README.
set -eu

cd "$(dirname "$0")/.."
helm=$PWD/deploy/helm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go run ./services/rollcall config schema >"$work/config.json"
(cd scripts/tools && GOWORK=off go run ./chartschema "$helm/values.schema.base.json") <"$work/config.json" >"$work/values.json"
cp "$work/values.json" "$helm/rollcall/values.schema.json"
(cd scripts/tools && GOWORK=off go run ./chartreadme "$helm/rollcall/values.yaml" "$helm/rollcall/README.md")
