{{- define "pushfleet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "pushfleet.labels" -}}
app.kubernetes.io/part-of: pushfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "pushfleet.account" -}}
{{ if .Values.serviceAccount.create }}{{ .Release.Name }}{{ else }}default{{ end }}
{{- end }}

{{- /* What every pod shares: who it runs as, its files. */}}
{{- define "pushfleet.pod" -}}
serviceAccountName: {{ include "pushfleet.account" . }}
automountServiceAccountToken: false
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - {name: secret, secret: {secretName: {{ .Values.secret.name }}, defaultMode: 0440}}
  - {name: data, emptyDir: {}}
{{- end }}

{{- define "pushfleet.container" -}}
image: {{ include "pushfleet.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom: [{configMapRef: {name: {{ .Release.Name }}}}]
env:
  - {name: PUSHFLEET_REDIS_URL_FILE, value: /etc/pushfleet/redis-url}
  - {name: PUSHFLEET_DATABASE_URL_FILE, value: /etc/pushfleet/database-url}
{{- if .Values.secret.coreUrl }}
  - {name: PUSHFLEET_CORE_URL_FILE, value: /etc/pushfleet/core-url}
{{- end }}
  - {name: PUSHFLEET_SECRET_KEYS_FILE, value: /etc/pushfleet/keys}
  - {name: PUSHFLEET_PROCESS, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: PUSHFLEET_METRICS_ADVERTISE, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
volumeMounts: [{name: secret, mountPath: /etc/pushfleet, readOnly: true}, {name: data, mountPath: /var/lib/pushfleet}]
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- /* Every process that is on, lanes among them: name -> its values. */}}
{{- define "pushfleet.processes" -}}
{{- $all := dict }}
{{- range $name, $one := .Values.processes }}{{ if $one.enabled }}{{ $_ := set $all $name (merge (dict "args" (list "worker" $name)) $one) }}{{ end }}{{ end }}
{{- range $vendor, $one := .Values.lanes }}
{{- if $one.enabled }}
{{- $_ := set $all (printf "delivery-%s" $vendor) (merge (dict "args" (list "worker" "delivery" "--vendors" $vendor) "queues" (printf "send:%s:.*" $vendor)) $one) }}
{{- end }}
{{- end }}
{{- toYaml $all }}
{{- end }}
