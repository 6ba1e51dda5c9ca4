#!/usr/bin/env bash
# Runs the tests that need Samba or 389 Directory Server, and no others of their
# packages: those of the files that are built with the tag `directories`. Its
# arguments go to `go test`.
set -euo pipefail

cd "$(dirname "$0")/.."
scripts/directories.sh

mapfile -t files < <(grep -rl --include='*_test.go' '^//go:build directories$' services pkg test)
mapfile -t packages < <(dirname "${files[@]/#/./}" | sort -u)
names=$(sed -n 's/^func \(Test[^(]*\)(t .*/\1/p' "${files[@]}" | sort -u | paste -sd '|')
go test -race -shuffle=on -tags directories -parallel 6 -json -run "^($names)\$" "$@" "${packages[@]}" |
	GOWORK=off go -C scripts/tools run ./testsum -report "$PWD/bin/tests-directories.txt"
