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
