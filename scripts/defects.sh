#!/usr/bin/env bash
# Shows that the suites still find what they once found: each cured defect is switched
# back on, and the story that found it has to fail. Takes minutes; see docs/testing.md.
#
#   scripts/defects.sh [DEFECT...]
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A story=(
	[duplicates]='all stores wiped while stopped'
	[deleted]='stream deleted'
	[restored]='old copy restored'
	[late]='late writes'
	[clock]='clock of a server jumps'
)
# What the story has to say, so that it does not fail for another reason.
declare -A says=(
	[duplicates]="two have user's externalId|two have group's externalId"
	[deleted]='not within'
	[restored]='not within'
	[late]='not within'
	[clock]='not within'
)

[ $# -gt 0 ] || set -- duplicates deleted restored late clock
scripts/slapd.sh >/dev/null
log=$(mktemp)
trap 'rm -f "$log"' EXIT
missed=()
for defect; do
	if ROLLCALL_DEFECT=$defect go test -tags cluster -count=1 -timeout 20m ./test/chaos/cluster \
		-run '^TestStories$' -stories "${story[$defect]}" >"$log" 2>&1; then
		result='not found'
	elif grep -Eq -- "${says[$defect]}" "$log"; then
		result=found
	else
		result='not found: the story failed for another reason'
		tail -n 20 "$log"
	fi
	printf '%-12s %s: %s\n' "$defect" "${story[$defect]}" "$result"
	[ "$result" = found ] || missed+=("$defect")
done
[ ${#missed[@]} -eq 0 ] || {
	echo "not found: ${missed[*]}" >&2
	exit 1
}
