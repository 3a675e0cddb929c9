{{/* Names, labels, images. Names never change over upgrades; selectors hold name, instance and component alone. */}}

{{- define "framegrid.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains "framegrid" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-framegrid" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Selector labels: (list $ "ingest") */}}
{{- define "framegrid.selector" -}}
app.kubernetes.io/name: framegrid
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "framegrid.labels" -}}
{{ include "framegrid.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image: (list $ .Values.ingest.image) */}}
{{- define "framegrid.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- $name := $image.repository }}
{{- if $root.Values.image.registry }}{{ $name = printf "%s/%s" $root.Values.image.registry $name }}{{ end -}}
{{- if $image.digest }}{{ printf "%s@%s" $name $image.digest }}
{{- else }}{{ printf "%s:%s" $name ($image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "framegrid.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where a component's pods go: (list $ "ingest" .Values.ingest) */}}
{{- define "framegrid.placement" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index . 2 }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.topologyKeys }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "framegrid.selector" (list $root $component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Every pod: an ordinary user, nothing to escalate with. */}}
{{- define "framegrid.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Every container: what must be written is an emptyDir. */}}
{{- define "framegrid.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Further environment from a map of values. */}}
{{- define "framegrid.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Where ingest finds serve. */}}
{{- define "framegrid.serveService" -}}
{{ include "framegrid.fullname" . }}-{{ ternary "serve-svc" "serve" (eq .Values.ray.mode "kuberay") }}
{{- end }}
{{- define "framegrid.serveUrl" -}}
http://{{ include "framegrid.serveService" . }}.{{ .Release.Namespace }}.svc:8000
{{- end }}

{{/* A value that is generated once and kept: (list $ "secret-name" "key") -> base64 */}}
{{- define "framegrid.kept" -}}
{{- $root := index . 0 }}
{{- $secret := lookup "v1" "Secret" $root.Release.Namespace (index . 1) }}
{{- $kept := dig "data" (index . 2) "" ($secret | default dict) }}
{{- $kept | default (randAlphaNum 32 | b64enc) }}
{{- end }}

{{/* A namespaceSelector; without a name any namespace. */}}
{{- define "framegrid.namespace" -}}
{{- if . }}{matchLabels: {kubernetes.io/metadata.name: {{ . }}}}{{ else }}{}{{ end }}
{{- end }}

{{/* Let Prometheus in: (list $ (list 8080)) */}}
{{- define "framegrid.fromMonitoring" -}}
{{- $root := index . 0 -}}
- from: [{namespaceSelector: {{ include "framegrid.namespace" $root.Values.networkPolicy.monitoringNamespace }}}]
  ports: [{{ range $i, $port := index . 1 }}{{ if $i }}, {{ end }}{port: {{ $port }}}{{ end }}]
{{- end }}
