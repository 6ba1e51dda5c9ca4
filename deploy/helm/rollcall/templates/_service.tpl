{{/*
Everything that one service is made of. Takes the dict that _helpers.tpl describes.
*/}}
{{- define "rollcall.service" -}}
{{- if .values.enabled -}}
{{- $v := .root.Values -}}
{{- $secrets := include "rollcall.service.secrets" . | fromJsonArray -}}
{{- if .values.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "rollcall.service.account" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.service.labels" . | nindent 4 }}
  {{- with merge (deepCopy .values.serviceAccount.annotations) $v.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- /* The services speak with NATS, the directory and the targets, not with Kubernetes. */}}
automountServiceAccountToken: false
---
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "rollcall.service.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.service.labels" . | nindent 4 }}
  {{- with $v.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if eq (dig "autoscaling" "mode" "none" .values) "none" }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $v.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- include "rollcall.service.selector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  template:
    metadata:
      labels:
        {{- include "rollcall.service.labels" . | nindent 8 }}
        rollcall/metrics: "true"
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "rollcall.config" .root | sha256sum }}
        {{- with merge (deepCopy .values.podAnnotations) $v.commonAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "rollcall.service.account" . }}
      {{- include "rollcall.pod" .root | nindent 6 }}
      {{- with $v.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $v.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range $v.topologySpreadConstraints }}
        - {{ toYaml . | nindent 10 | trim }}
          labelSelector:
            matchLabels:
              {{- include "rollcall.service.selector" $ | nindent 14 }}
        {{- end }}
      {{- end }}
      {{- with $v.initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .service }}
          image: {{ include "rollcall.image" . | quote }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          args: [--config=/etc/rollcall/rollcall.yaml]
          env:
            {{- include "rollcall.env" (dict "root" .root "env" .values.extraEnv) | trim | nindent 12 }}
          {{- with $v.extraEnvFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - name: metrics
              containerPort: {{ include "rollcall.port" .root }}
            {{- with .http }}
            - name: http
              containerPort: {{ . }}
            {{- end }}
          {{- /* A slow start is the startup probe's; liveness asks neither NATS nor a target. */}}
          startupProbe:
            httpGet: {path: /healthz, port: metrics}
            {{- toYaml $v.startupProbe | nindent 12 }}
          livenessProbe:
            httpGet: {path: /healthz, port: metrics}
            {{- toYaml $v.livenessProbe | nindent 12 }}
          readinessProbe:
            httpGet: {path: /readyz, port: metrics}
            {{- toYaml $v.readinessProbe | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- toYaml $v.securityContext | nindent 12 }}
          volumeMounts:
            - name: config
              mountPath: /etc/rollcall
              readOnly: true
            - name: tmp
              mountPath: /tmp
            {{- range $i, $name := $secrets }}
            - name: secret-{{ $i }}
              mountPath: /run/secrets/rollcall/{{ $name }}
              readOnly: true
            {{- end }}
            {{- with $v.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with $v.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        - name: config
          configMap:
            name: {{ include "rollcall.fullname" .root }}
        - name: tmp
          emptyDir: {}
        {{- range $i, $name := $secrets }}
        - name: secret-{{ $i }}
          secret:
            secretName: {{ $name }}
            defaultMode: 0440
        {{- end }}
        {{- with $v.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- include "rollcall.service.scaler" . }}
{{- include "rollcall.service.networkPolicy" . }}
{{- if and $v.podDisruptionBudget.enabled (gt (int (include "rollcall.service.least" .)) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "rollcall.service.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.service.labels" . | nindent 4 }}
  {{- with $v.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  maxUnavailable: {{ $v.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "rollcall.service.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
{{- end -}}
