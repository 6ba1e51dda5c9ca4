#!/bin/sh
# Runs a command that generates files, and fails when that changed any of them.
#
#   unchanged.sh 'make generate' FILE-OR-FOLDER... -- COMMAND...
#
# The state before is the state of the working tree, so that it can be used
# before a commit, too. The first argument is the cure that the message names.
set -eu

cure=$1
shift
paths=
while [ "$1" != -- ]; do
	paths="$paths $1"
	shift
done
shift

# state lists the files with their contents' hashes.
state() {
	# shellcheck disable=SC2086 # a list of paths
	git ls-files --cached --others --exclude-standard -- $paths | sort -u | while read -r file; do
		if [ -e "$file" ]; then echo "$(git hash-object "$file") $file"; fi
	done
}

before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
state >"$before"
"$@"
state >"$after"
if ! cmp -s "$before" "$after"; then
	echo "These files were stale:" >&2
	diff "$before" "$after" | sed -n 's/^[<>] [0-9a-f]* /  /p' | sort -u >&2
	echo "They have been written anew now; \`$cure\` does the same. Commit them with their source." >&2
	exit 1
fi
