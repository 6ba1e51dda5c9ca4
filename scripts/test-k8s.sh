#!/usr/bin/env bash
# Plays the company's story against the chart on a real Kubernetes of one node, which
# it builds and brings up as root; as another user only a pretended one. With
# --if-changed it does nothing where all that it tests has passed before; with --keda it
# builds KEDA too, and lets that follow the backlog instead. Its other arguments go to
# `go test`.
set -euo pipefail

cd "$(dirname "$0")/.."
report=$PWD/bin/tests-k8s.txt
mkdir -p bin
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
passed=$cache/k8s-passed-$(git ls-files -z -- deploy scripts '*/main.go' '*go.mod' '*go.sum' pkg/service services/rollcall/demo services/rollcall/kubetest |
	xargs -0 git hash-object | git hash-object --stdin | cut -c 1-12)
if [ "${1-}" = --if-changed ]; then
	shift
	if [ -e "$passed" ]; then
		echo 'test-k8s: chart, programs and modules are those that have passed'
		exit 0
	fi
fi
story='^TestChart$'
if [ "${1-}" = --keda ]; then
	shift
	if [ "$(id -u)" != 0 ]; then
		echo 'test-k8s: KEDA has to run for this, and only root can run containers' >&2
		exit 1
	fi
	story='^TestKEDA$' report=$PWD/bin/tests-keda.txt passed=/dev/null
	scripts/prometheus.sh >/dev/null
	scripts/keda.sh >/dev/null
fi
if [ "$(id -u)" != 0 ]; then
	echo 'test-k8s: THE STORY IS NOT PLAYED: only root can run containers; Kubernetes will only pretend to' >&2
fi
scripts/slapd.sh >/dev/null
scripts/cluster.sh >/dev/null
# Images first: in namespaces of its own the test reaches no network.
scripts/image.sh test change-detector user-sync group-sync console rollcall >/dev/null
CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o bin/image/nats/ github.com/nats-io/nats-server/v2
CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o bin/image/scimtest/ ./pkg/scim/scimtest/cmd/scimtest
go test -tags kubernetes -count=1 -timeout 20m -json -run "$story" "$@" ./services/rollcall/demo |
	GOWORK=off go -C scripts/tools run ./testsum -report "$report"
if [ "$(id -u)" = 0 ]; then
	touch "$passed"
fi
