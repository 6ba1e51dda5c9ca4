{{/* Names */}}

{{- define "rollcall.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "rollcall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains (include "rollcall.name" .) .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "rollcall.name" .) | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
The templates of one service take a dict: root (the chart's scope), service (its
name, as the image has it), values (its part of the values) and, where it serves
people, http (the port).
*/}}

{{- define "rollcall.service.name" -}}
{{- printf "%s-%s" (include "rollcall.fullname" .root) .service -}}
{{- end -}}

{{- define "rollcall.service.account" -}}
{{- if .values.serviceAccount.create -}}
{{- default (include "rollcall.service.name" .) .values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := dig "imageRegistry" "" (default dict .root.Values.global) | default $image.registry -}}
{{- $version := default .root.Chart.AppVersion $image.tag | printf ":%s" -}}
{{- with get $image.digests .service -}}
{{- $version = printf "@%s" . -}}
{{- end -}}
{{- printf "%s/%s/%s%s" $registry $image.repositoryPrefix .service $version | trimPrefix "/" -}}
{{- end -}}

{{/*
The environment of a container, as a list: what telemetry says of the pod, and what the
values add, which wins. Takes a dict: root, and env, of one service.
*/}}
{{- define "rollcall.env" -}}
{{- $own := list
  (dict "name" "K8S_POD_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name")))
  (dict "name" "K8S_NODE_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "spec.nodeName")))
  (dict "name" "OTEL_RESOURCE_ATTRIBUTES" "value" (printf "k8s.namespace.name=%s,k8s.pod.name=$(K8S_POD_NAME),k8s.node.name=$(K8S_NODE_NAME)" .root.Release.Namespace)) -}}
{{- $more := concat .root.Values.extraEnv (default list .env) -}}
{{- $names := list -}}
{{- range $more -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $own -}}
{{- if not (has .name $names) }}
- {{ toYaml . | nindent 2 | trim }}
{{- end -}}
{{- end -}}
{{- with $more }}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{/* What every pod of the release has. */}}
{{- define "rollcall.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* Labels */}}

{{- define "rollcall.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "rollcall.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/part-of: rollcall
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rollcall.service.labels" -}}
{{ include "rollcall.labels" .root }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{/* These never change: a Deployment's selector is immutable. */}}
{{- define "rollcall.service.selector" -}}
app.kubernetes.io/name: {{ include "rollcall.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{/* Configuration */}}

{{- define "rollcall.nats.url" -}}
{{- if .Values.nats.embedded.enabled -}}
{{- printf "nats://%s-nats.%s.svc:4222" (include "rollcall.fullname" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.nats.url -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $nats := dict "url" (include "rollcall.nats.url" .) "replicas" (int .Values.nats.replicas) -}}
{{- with .Values.nats.existingSecret -}}
{{- $_ := set $nats "credentials" (printf "${file:/run/secrets/rollcall/%s/%s}" . $.Values.nats.credentialsKey) -}}
{{- end -}}
{{- $_ := set $config "nats" $nats -}}
{{- if .Values.console.enabled -}}
{{- $_ := set $config "console" (merge (dict "listen" (include "rollcall.console.listen" .)) (default dict $config.console)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The port of the probes is where the configuration says. */}}
{{- define "rollcall.port" -}}
{{- $listen := dig "telemetry" "metrics_listen" "" .Values.config -}}
{{- if not (regexMatch (include "rollcall.reachable" .) $listen) -}}
{{- fail (printf "config.telemetry.metrics_listen is %q: the kubelet must reach the probes, write 0.0.0.0:9090 or [::]:9090" $listen) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{/* Where the console listens; by default where its Service reaches it. */}}
{{- define "rollcall.console.listen" -}}
{{- dig "console" "listen" "0.0.0.0:8080" .Values.config -}}
{{- end -}}

{{- define "rollcall.console.port" -}}
{{- regexFind "[0-9]+$" (include "rollcall.console.listen" .) -}}
{{- end -}}

{{/* An address that is reached from outside of the pod, as a regular expression. */}}
{{- define "rollcall.reachable" -}}
^(0\.0\.0\.0|\[::\])?:[1-9][0-9]{1,4}$
{{- end -}}

{{/* The names of the Secrets that a service gets, as a JSON list. */}}
{{- define "rollcall.service.secrets" -}}
{{- $names := list -}}
{{- with .root.Values.nats.existingSecret -}}
{{- $names = append $names . -}}
{{- end -}}
{{- range .root.Values.existingSecrets -}}
{{- if or (empty .services) (has $.service .services) -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "rollcall.check" -}}
{{- $n := .Values.nats -}}
{{- if and $n.url $n.embedded.enabled -}}
{{- fail "nats.url and nats.embedded.enabled are both set: Rollcall meets in one NATS, choose" -}}
{{- end -}}
{{- if not (or $n.url $n.embedded.enabled) -}}
{{- fail "nats.url is empty: write the address of your NATS, for example --set nats.url=nats://nats.nats.svc:4222, or for a trial --set nats.embedded.enabled=true" -}}
{{- end -}}
{{- if and $n.embedded.enabled (or (gt (int $n.replicas) 1) $n.existingSecret) -}}
{{- fail "nats.embedded is one server without credentials, for a trial: leave nats.replicas at 1 and nats.existingSecret empty" -}}
{{- end -}}
{{- if .Values.console.enabled -}}
{{- include "rollcall.console.check" . -}}
{{- end -}}
{{- if not .Values.config.sources -}}
{{- fail "config.sources is empty: describe your directory there, see docs/configuration.md" -}}
{{- end -}}
{{- if not .Values.config.connections -}}
{{- fail "config.connections is empty: describe your targets there, see docs/configuration.md" -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.console.check" -}}
{{- $c := .Values.console -}}
{{- $listen := include "rollcall.console.listen" . -}}
{{- if not (regexMatch (include "rollcall.reachable" .) $listen) -}}
{{- fail (printf "config.console.listen is %q: the Service must reach the console, leave the key out or write 0.0.0.0:8080 or [::]:8080" $listen) -}}
{{- end -}}
{{- if eq (include "rollcall.console.port" .) (include "rollcall.port" .) -}}
{{- fail (printf "config.console.listen and config.telemetry.metrics_listen have the same port %s: choose two" (include "rollcall.port" .)) -}}
{{- end -}}
{{- $token := dig "console" "auth" "token" "" .Values.config -}}
{{- if not $token -}}
{{- fail "console.enabled: the console needs a token; write config.console.auth.token: ${file:/run/secrets/rollcall/SECRET/KEY}, and name SECRET in existingSecrets, with services: [console]" -}}
{{- end -}}
{{- $secret := regexFind "^[$][{]file:/run/secrets/rollcall/[^/]+/" $token | trimPrefix "${file:/run/secrets/rollcall/" | trimSuffix "/" -}}
{{- if and $secret (not (has $secret (include "rollcall.service.secrets" (dict "root" . "service" "console") | fromJsonArray))) -}}
{{- fail (printf "config.console.auth.token is in Secret %s, which the console does not get: add {name: %s, services: [console]} to existingSecrets" $secret $secret) -}}
{{- end -}}
{{- if and $c.ingress.enabled (not $c.ingress.hosts) -}}
{{- fail "console.ingress.hosts is empty: write the names by which people reach the console, for example [rollcall.example.com]" -}}
{{- end -}}
{{- if and $c.httpRoute.enabled (not $c.httpRoute.parentRefs) -}}
{{- fail "console.httpRoute.parentRefs is empty: write the Gateway, for example [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- end -}}
