{{/* Where the database is and which Secret holds its addresses. */}}

{{- define "framegrid.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "framegrid.fullname" .)) }}
{{- end }}

{{- define "framegrid.databaseHost" -}}
{{ include "framegrid.fullname" . }}-{{ ternary "db-rw" "database" (eq .Values.database.mode "cnpg") }}
{{- end }}

{{/* The environment variable with an address: (list $ "app"). `postgres` is the superuser of the embedded database. */}}
{{- define "framegrid.databaseEnv" -}}
- name: FRAMEGRID_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "framegrid.databaseSecret" (index . 0) }}
      key: {{ get (index . 0).Values.database.keys (index . 1) | default (printf "%s-url" (index . 1)) }}
{{- end }}

{{/* The password of a role, generated once for a release: (list $ "app"). Asked for several times in one rendering, so it
     is remembered in the values. */}}
{{- define "framegrid.databasePassword" -}}
{{- $root := index . 0 }}{{ $key := printf "%s-password" (index . 1) }}
{{- $known := get $root.Values "_passwords" | default dict }}
{{- if not (hasKey $known $key) }}
{{- $_ := set $known $key (include "framegrid.kept" (list $root (include "framegrid.databaseSecret" $root) $key) | b64dec) }}
{{- $_ := set $root.Values "_passwords" $known }}
{{- end }}
{{- get $known $key }}
{{- end }}

{{- define "framegrid.databaseUrl" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
postgresql://{{ $role }}:{{ include "framegrid.databasePassword" . }}@{{ include "framegrid.databaseHost" $root }}:5432/{{ $root.Values.database.name }}
{{- end }}
