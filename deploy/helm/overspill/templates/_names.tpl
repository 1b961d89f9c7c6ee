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
