{{/* What a schema cannot say: one sentence, what is wrong and what to do, and nothing is installed. */}}

{{- define "framegrid.checks" -}}
{{- include "framegrid.checkApis" . }}
{{- include "framegrid.checkSizes" . }}
{{- include "framegrid.checkValues" . }}
{{- include "framegrid.checkSecrets" . }}
{{- end }}

{{- define "framegrid.checkApis" -}}
{{- $has := .Capabilities.APIVersions }}
{{- if and (eq .Values.ray.mode "kuberay") (not ($has.Has "ray.io/v1/RayService")) }}
  {{- fail "ray.mode=kuberay needs the KubeRay operator, and this cluster has no ray.io/v1 RayService; install the operator first (docs.ray.io, KubeRay operator installation) or set ray.mode=static" }}
{{- end }}
{{- if and (eq .Values.database.mode "cnpg") (not ($has.Has "postgresql.cnpg.io/v1/Cluster")) }}
  {{- fail "database.mode=cnpg needs the CloudNativePG operator, and this cluster has no postgresql.cnpg.io/v1 Cluster; install the operator first or choose database.mode=embedded or external" }}
{{- end }}
{{- if and .Values.monitoring.podMonitor.enabled (not ($has.Has "monitoring.coreos.com/v1/PodMonitor")) }}
  {{- fail "monitoring.podMonitor.enabled needs Prometheus' operator, and this cluster has no monitoring.coreos.com/v1 PodMonitor; install the operator first or set monitoring.podMonitor.enabled=false" }}
{{- end }}
{{- if and .Values.monitoring.prometheusRule.enabled (not ($has.Has "monitoring.coreos.com/v1/PrometheusRule")) }}
  {{- fail "monitoring.prometheusRule.enabled needs Prometheus' operator, and this cluster has no monitoring.coreos.com/v1 PrometheusRule; install the operator first or set monitoring.prometheusRule.enabled=false" }}
{{- end }}
{{- end }}

{{- define "framegrid.checkSizes" -}}
{{- $cpus := int .Values.ray.workerCpus }}{{ $each := int .Values.serve.args.cpus_per_replica }}
{{- if gt $each $cpus }}
  {{- fail (printf "serve.args.cpus_per_replica: expected at most ray.workerCpus (%d), got %d; a replica would fit on no worker" $cpus $each) }}
{{- end }}
{{- $scale := .Values.serve.autoscaling }}
{{- if gt (int $scale.min_replicas) (int $scale.max_replicas) }}
  {{- fail (printf "serve.autoscaling: expected min_replicas up to max_replicas (%d), got %d" (int $scale.max_replicas) (int $scale.min_replicas)) }}
{{- end }}
{{- if eq .Values.ray.mode "kuberay" }}
  {{- $kuberay := .Values.ray.kuberay }}
  {{- if gt (int $kuberay.minWorkers) (int $kuberay.maxWorkers) }}
    {{- fail (printf "ray.kuberay: expected minWorkers up to maxWorkers (%d), got %d" (int $kuberay.maxWorkers) (int $kuberay.minWorkers)) }}
  {{- end }}
  {{- $room := mul (int $kuberay.maxWorkers) (div $cpus $each) }}
  {{- if gt (int $scale.max_replicas) (int $room) }}
    {{- fail (printf "serve.autoscaling.max_replicas: expected at most %d, what ray.kuberay.maxWorkers has room for, got %d" $room (int $scale.max_replicas)) }}
  {{- end }}
{{- end }}
{{- with .Values.ingest.autoscaling }}
  {{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
    {{- fail (printf "ingest.autoscaling: expected minReplicas up to maxReplicas (%d), got %d" (int .maxReplicas) (int .minReplicas)) }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "framegrid.checkValues" -}}
{{- range $key := list "cameras" "serve_url" "database_url" "http_host" "http_port" "store_spool_dir" "store_spool_bytes" }}
  {{- if hasKey $.Values.ingest.settings $key }}
    {{- fail (printf "ingest.settings.%s is set by the chart; remove it" $key) }}
  {{- end }}
{{- end }}
{{- $names := list }}
{{- range .Values.serve.deployment.user_config.models }}{{ $names = append $names .name }}{{ end }}
{{- $default := .Values.serve.deployment.user_config.default_model }}
{{- if and $default (not (has $default $names)) }}
  {{- fail (printf "serve.deployment.user_config.default_model: expected one of %s, got %s" (join ", " $names) $default) }}
{{- end }}
{{- range .Values.serve.deployment.user_config.models }}
  {{- if and (hasPrefix "/models/" (.path | default "")) (not $.Values.serve.modelVolume) }}
    {{- fail (printf "serve.deployment.user_config: model %s lies under /models, where serve.modelVolume is mounted, and there is none; set it" .name) }}
  {{- end }}
{{- end }}
{{- $seen := dict }}
{{- range .Values.cameras }}
  {{- if hasKey $seen .name }}{{ fail (printf "cameras: expected each name once, got %s twice; rename one" .name) }}{{ end }}
  {{- $_ := set $seen .name true }}
{{- end }}
{{- if and .Values.dashboards.ingress.enabled (not .Values.dashboards.ingress.host) }}
  {{- fail "dashboards.ingress.host: expected a host name with dashboards.ingress.enabled, got none" }}
{{- end }}
{{- end }}

{{- define "framegrid.checkSecrets" -}}
{{- $database := .Values.database }}
{{- if and (eq $database.mode "external") (not $database.existingSecret) }}
  {{- fail (printf "database.existingSecret: expected the name of a Secret with the keys %s, %s and %s (addresses postgresql://…) for database.mode=external, got none" $database.keys.owner $database.keys.app $database.keys.bi) }}
{{- end }}
{{- if and (ne $database.mode "external") $database.existingSecret }}
  {{- fail (printf "database.existingSecret is for database.mode=external, got mode %s; remove it, or set the mode" $database.mode) }}
{{- end }}
{{- if $database.existingSecret }}
  {{- include "framegrid.checkSecret" (list . $database.existingSecret (values $database.keys | sortAlpha) "database.existingSecret") }}
{{- end }}
{{- if and .Values.ray.auth.enabled .Values.ray.auth.existingSecret }}
  {{- include "framegrid.checkSecret" (list . .Values.ray.auth.existingSecret (list "auth_token") "ray.auth.existingSecret") }}
{{- end }}
{{- end }}

{{/* A Secret is there and has its keys: (list $ name keys value). Without a cluster (helm template) nothing can be looked up. */}}
{{- define "framegrid.checkSecret" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $namespace := $root.Release.Namespace }}
{{- if lookup "v1" "ServiceAccount" $namespace "default" }}
  {{- $secret := lookup "v1" "Secret" $namespace $name }}
  {{- if not $secret }}
    {{- fail (printf "%s: expected a Secret %s in namespace %s, got none; make it first: kubectl -n %s create secret generic %s --from-literal=%s=…" (index . 3) $name $namespace $namespace $name (index . 2 | join "=… --from-literal=")) }}
  {{- end }}
  {{- range $key := index . 2 }}
    {{- if not (hasKey ($secret.data | default dict) $key) }}
      {{- fail (printf "%s: expected the key %s in Secret %s, got %s" (index $ 3) $key $name (keys ($secret.data | default dict) | sortAlpha | join ", " | default "no key")) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}
