#!/usr/bin/env bash
# Checks the chart without a cluster: lint, render with the values in ci/, decode
# strictly, validate the configuration inside, compare with the renders in
# ci/golden/ (--update writes them), try values that must be refused, and test the
# alerts.
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
	"$work/rollcall" config validate --config "$work/rollcall.yaml" >"$work/faults" || { cat "$work/faults" >&2; return 1; }
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
refused 'nats.url is empty: write the address of your NATS' --set nats.url=
refused 'nats.url and nats.embedded.enabled are both set' --set nats.embedded.enabled=true
refused 'nats.embedded is one server' --set nats.url=,nats.embedded.enabled=true,nats.replicas=3
refused 'no KEDA (keda.sh/v1alpha1)' --set userSync.autoscaling.mode=keda,userSync.autoscaling.keda.prometheus.serverAddress=http://p:9090
refused 'KEDA reads the backlog from Prometheus' --set userSync.autoscaling.mode=keda
refused 'groupSync.autoscaling.maxReplicas is 2, and minReplicas 3' --set groupSync.autoscaling.mode=hpa,groupSync.autoscaling.minReplicas=3,groupSync.autoscaling.maxReplicas=2
refused 'userSync/autoscaling/mode' --set userSync.autoscaling.mode=auto
refused "additional properties 'autoscaling' not allowed" --set changeDetector.autoscaling.mode=hpa
refused 'metrics/serviceMonitor/interval' --set metrics.serviceMonitor.interval=soon
refused "additional properties 'ldap' not allowed" --set-json 'networkPolicy.to.ldap=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]'
refused 'console.enabled: the console needs a token' --set console.enabled=true
with_console=(--set console.enabled=true --set "config.console.auth.token=\${file:/run/secrets/rollcall/rollcall-secrets/token}")
refused 'config.console.listen is ""' "${with_console[@]}" --set config.console.listen=
refused 'config.console.listen is "0.0.0.0:0"' "${with_console[@]}" --set config.console.listen=0.0.0.0:0
refused 'Secret other, which the console does not get' --set console.enabled=true --set "config.console.auth.token=\${file:/run/secrets/rollcall/other/token}"
refused 'config.console.listen is "127.0.0.1:8080"' "${with_console[@]}" --set config.console.listen=127.0.0.1:8080
refused 'have the same port 9090' "${with_console[@]}" --set config.console.listen=0.0.0.0:9090
refused 'console.ingress.hosts is empty' "${with_console[@]}" --set console.ingress.enabled=true
refused 'console.httpRoute.parentRefs is empty' "${with_console[@]}" --set console.httpRoute.enabled=true
refused 'console/ingress/hosts/0' "${with_console[@]}" --set 'console.ingress.hosts[0]=https://rollcall.example.com'
refused 'console/service/type' --set console.service.type=ExternalName
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
refused 'image/digests/user-sync' --set image.digests.user-sync=latest
refused 'config/sources/corp/preset' --set config.sources.corp.preset=exchange
refused 'existingSecrets/0/services/0' --set 'existingSecrets[0].name=a,existingSecrets[0].services[0]=rollcall'
refused 'topologySpreadConstraints/0' --set-json 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]'

echo "chart: alerts"
promtool=$(scripts/prometheus.sh)/promtool
"$promtool" check rules "$chart/monitoring/alerts.yaml" >"$work/rules" || { cat "$work/rules" >&2; exit 1; }
"$promtool" test rules deploy/helm/alerts_test.yaml >"$work/rules" 2>&1 || { cat "$work/rules" >&2; exit 1; }

helm package "$chart" --destination "$work" >/dev/null
echo "chart: ok"
