{{- define "hub.labels" -}}
{{ include "hub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: overspill
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "hub.selector" -}}
app.kubernetes.io/name: overspill-hub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "hub.name" -}}
{{ .Release.Name }}-hub
{{- end }}
{{- define "hub.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "hub.hosts" -}}
{{- $name := include "hub.name" . -}}
{{- $inside := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- concat (list "localhost" "127.0.0.1") $inside .Values.hosts | toJson -}}
{{- end }}
{{- define "hub.bundledImage" -}}
{{ .Values.bundledImage.repository }}:{{ .Values.bundledImage.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "nats.name" -}}
{{ .Release.Name }}-nats
{{- end }}
{{- define "nats.selector" -}}
app.kubernetes.io/name: overspill-nats
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "objects.name" -}}
{{ .Release.Name }}-objects
{{- end }}
{{- define "objects.selector" -}}
app.kubernetes.io/name: overspill-objects
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "hub.labelsBeside" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: overspill
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "nats.hosts" -}}
{{- $hosts := list -}}
{{- range $number := until (.Values.nats.bundled.replicas | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s-peers.%s.svc.cluster.local:6222" (include "nats.name" $) $number (include "nats.name" $) $.Release.Namespace) -}}
{{- end -}}
{{- $hosts | toJson -}}
{{- end }}
{{- define "nats.url" -}}
{{- if .Values.nats.bundled.enabled -}}nats://{{ include "nats.name" . }}.{{ .Release.Namespace }}.svc:4222{{- else -}}{{ .Values.nats.url }}{{- end -}}
{{- end }}
{{- define "nats.identitySecret" -}}
{{- if .Values.nats.bundled.enabled -}}{{ .Release.Name }}-identity{{- else -}}{{ .Values.nats.identitySecret }}{{- end -}}
{{- end }}
{{- define "s3.url" -}}
{{- if .Values.s3.bundled.enabled -}}http://{{ include "objects.name" . }}.{{ .Release.Namespace }}.svc:8333{{- else -}}{{ .Values.s3.url }}{{- end -}}
{{- end }}
{{- define "s3.credentialsSecret" -}}
{{- if .Values.s3.bundled.enabled -}}{{ include "objects.name" . }}{{- else -}}{{ .Values.s3.credentialsSecret }}{{- end -}}
{{- end }}
{{- define "token.secret" -}}
{{- .Values.token.secret | default (printf "%s-token" .Release.Name) -}}
{{- end }}
{{- define "collectors.name" -}}
{{ .Release.Name }}-log-collector
{{- end }}
{{- define "collectors.selector" -}}
app.kubernetes.io/name: overspill-log-collector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "collectors.labels" -}}
{{ include "collectors.selector" . }}
{{ include "hub.labelsBeside" . }}
{{- end }}
{{- define "s3.environment" -}}
- {name: OVERSPILL_S3_URL, value: {{ include "s3.url" . | quote }}}
{{- with .Values.s3.publicUrl }}
- {name: OVERSPILL_S3_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
- {name: OVERSPILL_S3_BUCKET, value: {{ .Values.s3.bucket | quote }}}
- {name: OVERSPILL_S3_REGION, value: {{ .Values.s3.region | quote }}}
- {name: OVERSPILL_S3_CREDENTIALS_FILE, value: /overspill/s3/{{ .Values.s3.bundled.enabled | ternary "credentials" .Values.s3.credentialsKey }}}
{{- end }}
{{- define "telemetry.environment" -}}
{{- with .Values.telemetry }}{{ if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .sampleRatio | quote }}}
- {name: OTEL_METRIC_EXPORT_INTERVAL, value: {{ .intervalMilliseconds | int | quote }}}
{{- end }}{{ end }}
{{- end }}
