{{/*
The ports of a list of addresses, which may stand several in one, as a JSON list
without repetitions. An address without a port has the one of its scheme.
*/}}
{{- define "rollcall.ports" -}}
{{- $usual := dict "ldap" 389 "ldaps" 636 "http" 80 "https" 443 "nats" 4222 "tls" 4222 "ws" 80 "wss" 443 -}}
{{- $ports := list -}}
{{- range . -}}
{{- range splitList "," . -}}
{{- $url := urlParse (trim .) -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports (int (default (get $usual $url.scheme) $port)) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* A rule of egress: takes a dict of addresses and to, the peers; none: anywhere. */}}
{{- define "rollcall.egress" -}}
{{- $ports := include "rollcall.ports" .addresses | fromJsonArray -}}
{{- if $ports }}
- ports:
    {{- range $ports }}
    - {protocol: TCP, port: {{ . | int }}}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Whom a service may speak with, by its configuration. */}}
{{- define "rollcall.service.networkPolicy" -}}
{{- $n := .root.Values.networkPolicy -}}
{{- if $n.enabled -}}
{{- $config := .root.Values.config }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "rollcall.service.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.service.labels" . | nindent 4 }}
  {{- with .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "rollcall.service.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - {protocol: TCP, port: metrics}
      {{- with $n.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- if .http }}
    - ports:
        - {protocol: TCP, port: http}
      {{- with $n.consoleFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
  egress:
    - ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
      {{- with $n.to.dns }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with include "rollcall.egress" (dict "addresses" (list (include "rollcall.nats.url" .root)) "to" $n.to.nats) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if eq .service "change-detector" }}
    {{- $addresses := list }}
    {{- range $config.sources }}{{- $addresses = concat $addresses .ldap.urls }}{{- end }}
    {{- with include "rollcall.egress" (dict "addresses" $addresses "to" $n.to.directories) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- else if ne .service "console" }}
    {{- $addresses := list }}
    {{- range $config.connections }}
    {{- $addresses = append $addresses .target.url }}
    {{- $addresses = concat $addresses (list (dig "auth" "oauth2_client_credentials" "token_url" "" .target) (dig "proxy" "" .target)) }}
    {{- end }}
    {{- $addresses = without $addresses "" }}
    {{- with include "rollcall.egress" (dict "addresses" $addresses "to" $n.to.targets) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with dig "telemetry" "otlp_endpoint" "" $config }}
    {{- with include "rollcall.egress" (dict "addresses" (list .) "to" $n.to.telemetry) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with $n.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
