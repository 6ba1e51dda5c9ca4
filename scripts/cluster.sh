#!/bin/sh
# Builds a Kubernetes of one node from deploy/cluster into the cache, and prints the
# directory of its programs. The directory is named by what they are made of; a
# second call is instant. Progress goes to stderr.
set -eu

cd "$(dirname "$0")/../deploy/cluster"
cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
hash=$({ go env GOVERSION GOARCH; cat go.mod go.sum ./*/main.go ../../scripts/cluster.sh; } | git hash-object --stdin | cut -c 1-12)
out=$cache/cluster-$hash

say() { echo "cluster.sh: $*" >&2; }

if [ -e "$out/.complete" ]; then
	echo "$out"
	exit 0
fi
mkdir -p "$cache"
if command -v flock >/dev/null; then # two of us would do the work twice
	exec 9>"$out.lock"
	flock 9
fi
if [ ! -e "$out/.complete" ]; then
	work=$(mktemp -d "$out.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	say "building Kubernetes, once: some minutes"
	# Without their versions the programs call themselves v0.0.0, and Helm believes it.
	kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes \(v[^ ]*\)$/\1/p' go.mod)
	minor=${kubernetes#v1.}
	minor=${minor%%.*}
	version=k8s.io/component-base/version
	stamps="-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor -X $version.gitTreeState=clean"
	stamps="$stamps -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=$minor"
	# Nobody debugs these: without the debugger's tables a sixth of the work is saved.
	GOWORK=off GOFLAGS='' CGO_ENABLED=0 nice -n 19 go build -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w $stamps" -o "$work/" \
		./kube ./dns ./pause helm.sh/helm/v3/cmd/helm sigs.k8s.io/kwok/cmd/kwok >&2
	mv "$work/helm" "$work/helm3"
	ln -s kube "$work/kubectl"
	# How pretended nodes and pods pass through life is data of the module.
	stages=$(GOWORK=off go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
	for stage in node/fast node/heartbeat pod/fast; do
		for file in "$stages/$stage"/*.yaml; do
			case $file in */kustomization.yaml) continue ;; esac
			echo ---
			cat "$file"
		done
	done >"$work/stages.yaml"
	touch "$work/.complete"
	rm -rf "$out"
	mv "$work" "$out"
	say "built into $out"
fi
echo "$out"
