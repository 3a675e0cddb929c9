{{/* The video service: its config, and where serve finds it. Strangers' files meet a decoder there: no other access. */}}
{{- define "framegrid.videosConfig" -}}
{{- $own := dict "serve_url" (include "framegrid.serveUrl" .) "folder" "/var/lib/framegrid/videos" "http_host" "0.0.0.0" "http_port" 9481 }}
{{- merge $own (deepCopy .Values.videos.settings) | toYaml }}
{{- end }}

{{- define "framegrid.videosUrl" -}}
http://{{ include "framegrid.fullname" . }}-videos.{{ .Release.Namespace }}.svc:9481
{{- end }}
