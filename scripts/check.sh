#!/usr/bin/env bash
# Runs make targets one after the other and says how long each took. It stops at
# the first that fails; with CI=true it runs them all and fails at the end.
set -euo pipefail

cd "$(dirname "$0")/.."
# Helm and Kubernetes take minutes to build and are needed last.
set -m # a process group of its own, so that nothing of it is left behind
nice -n 19 sh -c 'scripts/tools/install.sh helm && scripts/cluster.sh >/dev/null' &
builds=$!
set +m
trap 'kill -- "-$builds" 2>/dev/null || true' EXIT

failed=()
times=()
for target; do
	echo "==> make $target"
	start=$SECONDS
	result=ok
	# shellcheck disable=SC2086 # a target with its variables
	make $target || result=failed
	times+=("$(printf '%-16s %4d s  %s' "${target%% *}" $((SECONDS - start)) "$result")")
	if [ "$result" = failed ]; then
		failed+=("$target")
		[ "${CI-}" = true ] || break
	fi
done

echo "==> make check"
printf '  %s\n' "${times[@]}"
if [ ${#failed[@]} -gt 0 ]; then
	echo "failed: ${failed[*]}" >&2
	exit 1
fi
