{{/*
A pod that runs one command of the program `rollcall` and ends. Takes a dict: root,
name, command, secrets (names, a list), config (name of the ConfigMap) and resources.
*/}}
{{- define "rollcall.command.pod" -}}
{{- $v := .root.Values -}}
restartPolicy: Never
{{- include "rollcall.pod" .root | nindent 0 }}
containers:
  - name: {{ .name }}
    image: {{ include "rollcall.image" (dict "root" .root "service" "rollcall") | quote }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    args: [{{ .command }}, --config=/etc/rollcall/rollcall.yaml]
    env:
      {{- include "rollcall.env" (dict "root" .root) | trim | nindent 6 }}
    {{- with $v.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- toYaml $v.securityContext | nindent 6 }}
    volumeMounts:
      - {name: config, mountPath: /etc/rollcall, readOnly: true}
      {{- range $i, $name := .secrets }}
      - {name: secret-{{ $i }}, mountPath: /run/secrets/rollcall/{{ $name }}, readOnly: true}
      {{- end }}
      {{- with $v.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    configMap:
      name: {{ .config }}
  {{- range $i, $name := .secrets }}
  - name: secret-{{ $i }}
    secret:
      secretName: {{ $name }}
      defaultMode: 0440
  {{- end }}
  {{- with $v.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
