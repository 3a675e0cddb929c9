{{/* Where the database is and which Secret holds its addresses. */}}

{{- define "framegrid.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "framegrid.fullname" .)) }}
{{- end }}

{{- define "framegrid.databaseHost" -}}
{{ include "framegrid.fullname" . }}-{{ ternary "db-rw" "database" (eq .Values.database.mode "cnpg") }}
{{- end }}

{{/* The environment variable with an address: (list $ "app") */}}
{{- define "framegrid.databaseEnv" -}}
- name: FRAMEGRID_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "framegrid.databaseSecret" (index . 0) }}
      key: {{ get (index . 0).Values.database.keys (index . 1) }}
{{- end }}
