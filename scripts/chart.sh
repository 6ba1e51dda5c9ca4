#!/usr/bin/env bash
# Checks the chart without a cluster: lint, render with the values in ci/, decode
# strictly, validate the configuration inside, compare with the renders in
# ci/golden/ (--update writes them), and try values that must be refused.
set -euo pipefail

cd "$(dirname "$0")/.."
chart=deploy/helm/rollcall
update=${1-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HELM_CACHE_HOME=$work/cache HELM_CONFIG_HOME=$work/config HELM_DATA_HOME=$work/data

(cd deploy/helm/verify && GOWORK=off go build -o "$work/verify" .)
go build -o "$work/rollcall" ./services/rollcall

render() { helm template rollcall "$chart" --namespace rollcall "$@"; }

good() {
	local values=$1 name
	name=$(basename "$values" .yaml)
	echo "chart: $name"
	helm lint --strict --quiet "$chart" --values "$values"
	for version in 1.28.0 1.37.0; do
		render --values "$values" --kube-version "$version" >"$work/$name.$version"
	done
	"$work/verify" -config "$work/rollcall.yaml" <"$work/$name.1.37.0"
	"$work/rollcall" config validate --config "$work/rollcall.yaml" >/dev/null
	render --values "$values" >"$work/$name.yaml"
	if [ "$update" = --update ]; then
		mkdir -p "$chart/ci/golden"
		cp "$work/$name.yaml" "$chart/ci/golden/$name.yaml"
	elif ! diff -u "$chart/ci/golden/$name.yaml" "$work/$name.yaml"; then
		echo "chart: the render of $name differs; if that is meant: make chart UPDATE=1" >&2
		return 1
	fi
}

# refused WANT ARGUMENT...: the render fails and its message contains WANT.
refused() {
	local want=$1
	shift
	if render --values "$chart/ci/minimal.yaml" "$@" >/dev/null 2>"$work/error"; then
		echo "chart: $* was taken, and must be refused" >&2
		return 1
	fi
	if ! grep -qF -- "$want" "$work/error"; then
		echo "chart: $* was refused without \"$want\":" >&2
		cat "$work/error" >&2
		return 1
	fi
}

for values in "$chart"/ci/*.yaml; do good "$values"; done
for golden in "$chart"/ci/golden/*.yaml; do
	[ -e "$chart/ci/$(basename "$golden")" ] || { echo "chart: $golden has no values in ci/" >&2; exit 1; }
done

echo "chart: what must be refused"
refused 'nats.url is empty: the chart does not bring NATS' --set nats.url=
refused 'config.sources is empty' --set config.sources=null
refused 'config.connections is empty' --set config.connections=null
refused 'config.telemetry.metrics_listen is "127.0.0.1:9090"' --set config.telemetry.metrics_listen=127.0.0.1:9090
refused "additional properties 'replcas' not allowed" --set userSync.replcas=3
refused "additional properties 'natz' not allowed" --set natz.url=x
refused "additional properties 'intervall' not allowed" --set config.sources.corp.detection.intervall=5s
refused "additional properties 'nats' not allowed" --set config.nats.url=x
refused 'userSync/replicas' --set-string userSync.replicas=two
refused 'nats/replicas' --set nats.replicas=2
refused 'image/pullPolicy' --set image.pullPolicy=Sometimes
refused 'config/sources/corp/preset' --set config.sources.corp.preset=exchange
refused 'existingSecrets/0/services/0' --set 'existingSecrets[0].name=a,existingSecrets[0].services[0]=console'
refused 'topologySpreadConstraints/0' --set-json 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]'

helm package "$chart" --destination "$work" >/dev/null
echo "chart: ok"
