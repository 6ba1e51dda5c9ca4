#!/bin/sh
# Compares the contract with the latest release, or with main before the first
# one. What is not there cannot be broken.
set -eu

cd "$(dirname "$0")/.."
against=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || echo main)
if ! git ls-tree -r --name-only "$against" -- proto 2>/dev/null | grep -q '\.proto$'; then
	echo "buf breaking: nothing to compare with" >&2
	exit 0
fi
commit=$(git rev-parse --verify "$against^{commit}")
exec buf breaking --against ".git#ref=$commit"
