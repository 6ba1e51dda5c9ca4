#!/usr/bin/env bash
# Verifies the model of the claim protocol (docs/model/README.md): a search of all states
# finds no error, one kind of fault at a time, and finds each of the deliberate mistakes.
# Progress is one line for each search. MODEL_MEMORY is the limit of one search in MiB.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in spin gcc; do
	command -v "$tool" >/dev/null || { echo "model.sh: $tool is not installed; run apt-get install spin gcc" >&2; exit 1; }
done
model=$PWD/docs/model/claim.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# search FLAG... searches all states of the model; what it says is in $work/said.
search() {
	rm -rf "${work:?}"/pan*
	(cd "$work" && spin "$@" -a "$model" >said 2>&1) || { cat "$work/said" >&2; exit 1; }
	gcc -O1 -w -DSAFETY -DNOFAIR -DVECTORSZ=1024 -DMEMLIM="${MODEL_MEMORY:-3500}" -o "$work/pan" "$work/pan.c"
	(cd "$work" && ./pan -m100000 -w24) >"$work/said" 2>&1 || true
}

# whole says whether the search came to its end.
whole() { ! grep -qE 'max search depth too small|out of memory|reached -DMEMLIM|Search not completed' "$work/said"; }

states() { awk '/states, stored/ { print $1 }' "$work/said"; }

holds() {
	local from=$SECONDS
	search "$@"
	if ! grep -q 'errors: 0$' "$work/said" || ! whole; then
		echo "model.sh: the model does not hold with $*:" >&2
		cat "$work/said" >&2
		failed=1
		return
	fi
	echo "holds in all $(states) states ($((SECONDS - from)) s): $*"
}

finds() {
	search "$@"
	if ! grep -q '^pan:1: assertion violated' "$work/said"; then
		echo "model.sh: the mistake $1 is not found:" >&2
		cat "$work/said" >&2
		failed=1
		return
	fi
	echo "found: $1 ($(sed -n 's/^pan:1: assertion violated *//p' "$work/said"))"
}

none=(-DCRASHES=0 -DLOST=0 -DREDELIVERIES=0 -DRENEWALS=0)
crash=(-DCRASHES=1 -DLOST=0 -DREDELIVERIES=0 -DRENEWALS=0)
lost=(-DCRASHES=0 -DLOST=1 -DREDELIVERIES=0 -DRENEWALS=0)
again=(-DCRASHES=0 -DLOST=0 -DREDELIVERIES=1 -DRENEWALS=0)
renewal=(-DCRASHES=0 -DLOST=0 -DREDELIVERIES=0 -DRENEWALS=1)

holds "${crash[@]}"
holds "${lost[@]}"
holds "${again[@]}"
holds "${renewal[@]}"
holds -DDUPLICATES "${none[@]}"

finds -DNO_SECOND_LOOK "${crash[@]}"
finds -DNO_DEADLINE "${none[@]}"
finds -DWALL_CLOCK_TAKEOVER "${crash[@]}"
finds -DCOMMIT_WITHOUT_COMPARE "${none[@]}"
finds -DACK_BEFORE_COMMIT "${crash[@]}"
finds -DOLD_DELIVERY "${lost[@]}"
finds -DCREDIT_OF_ANY_SEQUENCE "${lost[@]}"
exit "$failed"
