#!/bin/sh
# Runs every fuzz target for a moment: fuzz.sh [DURATION]. A crash leaves its
# input under testdata/fuzz, where it is a test from then on.
set -eu

duration=${1:-3s}
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
grep -rl --include='*_test.go' '^func Fuzz' pkg proto services test | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*$/\1/p' "$file" | while read -r target; do
		result=0
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$duration" "./$(dirname "$file")" >"$log" 2>&1 </dev/null || result=$?
		# The time can end in the middle of an input, which go test calls a failure;
		# a real one always leaves its input.
		if [ "$result" = 0 ] || { grep -q '^    context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log"; }; then
			echo "fuzz: $(dirname "$file") $target: $(sed -n 's/^.*\(execs: [0-9]*\).*$/\1/p' "$log" | tail -n 1)"
		else
			cat "$log"
			exit 1
		fi
	done
done
