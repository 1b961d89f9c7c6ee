{{- define "edge.labels" -}}
{{ include "edge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: overspill
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "edge.selector" -}}
app.kubernetes.io/name: overspill-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "edge.name" -}}
{{ .Release.Name }}-controller
{{- end }}
{{- define "edge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "edge.stepCtlImage" -}}
{{ .Values.stepCtlImage.repository }}:{{ .Values.stepCtlImage.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "edge.prepullPriority" -}}
{{ include "edge.name" . }}-prepull
{{- end }}
