{{/*
How many replicas of a service run by themselves. Takes the dict that _helpers.tpl
describes, as everything here.
*/}}

{{- define "rollcall.service.least" -}}
{{- if eq (dig "autoscaling" "mode" "none" .values) "none" -}}
{{- .values.replicas -}}
{{- else -}}
{{- .values.autoscaling.minReplicas -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "rollcall.service.scaler.check" -}}
{{- $key := get (dict "user-sync" "userSync" "group-sync" "groupSync") .service -}}
{{- $a := .values.autoscaling -}}
{{- if lt (int $a.maxReplicas) (int $a.minReplicas) -}}
{{- fail (printf "%s.autoscaling.maxReplicas is %d, and minReplicas %d: the greatest number must not be below the least" $key (int $a.maxReplicas) (int $a.minReplicas)) -}}
{{- end -}}
{{- if eq $a.mode "keda" -}}
{{- if not (or $a.keda.prometheus.serverAddress $a.keda.triggers) -}}
{{- fail (printf "%s.autoscaling.keda: KEDA reads the backlog from Prometheus; write its address to keda.prometheus.serverAddress, or triggers of your own to keda.triggers" $key) -}}
{{- end -}}
{{- if not (or $a.keda.skipCapabilityCheck (.root.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
{{- fail (printf "%s.autoscaling.mode is keda, and the cluster has no KEDA (keda.sh/v1alpha1): install it, or set keda.skipCapabilityCheck where nobody asks the cluster, as with helm template" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The backlog of a service: entries that are not applied yet, over all connections. All
replicas report the same number, which each reads from NATS; hence max.
*/}}
{{- define "rollcall.service.backlog" -}}
sum(max by (rollcall_connection) (rollcall_backlog{namespace={{ .root.Release.Namespace | quote }},rollcall_kind={{ include "rollcall.service.kind" . | quote }}}))
{{- end -}}

{{/* What a worker keeps, as the metrics call it. */}}
{{- define "rollcall.service.kind" -}}
{{- get (dict "user-sync" "users" "group-sync" "groups") .service -}}
{{- end -}}

{{/* What changes the number of replicas; nothing for a service that has no autoscaling. */}}
{{- define "rollcall.service.scaler" -}}
{{- $a := default dict .values.autoscaling -}}
{{- $mode := default "none" $a.mode -}}
{{- if ne $mode "none" -}}
{{- include "rollcall.service.scaler.check" . }}
---
{{- if eq $mode "hpa" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{- else }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
{{- end }}
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
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "rollcall.service.name" . }}
  {{- if eq $mode "hpa" }}
  minReplicas: {{ $a.minReplicas }}
  maxReplicas: {{ $a.maxReplicas }}
  {{- with $a.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  metrics:
    {{- if $a.metrics }}
    {{- toYaml $a.metrics | nindent 4 }}
    {{- else }}
    - type: External
      external:
        metric:
          name: rollcall_backlog
          selector:
            matchLabels:
              rollcall_kind: {{ include "rollcall.service.kind" . }}
        target:
          type: AverageValue
          averageValue: {{ $a.targetBacklog | quote }}
    {{- end }}
  {{- else }}
  minReplicaCount: {{ $a.minReplicas }}
  maxReplicaCount: {{ $a.maxReplicas }}
  pollingInterval: {{ $a.keda.pollingInterval }}
  cooldownPeriod: {{ $a.keda.cooldownPeriod }}
  fallback:
    failureThreshold: 3
    replicas: {{ $a.minReplicas }}
  {{- with $a.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    {{- if $a.keda.triggers }}
    {{- toYaml $a.keda.triggers | nindent 4 }}
    {{- else }}
    - type: prometheus
      metadata:
        serverAddress: {{ $a.keda.prometheus.serverAddress | quote }}
        query: {{ include "rollcall.service.backlog" . | quote }}
        threshold: {{ $a.targetBacklog | quote }}
    {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}
