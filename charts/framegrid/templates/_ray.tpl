{{/* What is the same in every Ray pod, with and without KubeRay. Nothing here may depend on the chart's version:
     a changed byte in a RayService's pods builds a whole new cluster. */}}

{{- define "framegrid.raySecret" -}}
{{ .Values.ray.auth.existingSecret | default (printf "%s-ray-token" (include "framegrid.fullname" .)) }}
{{- end }}

{{- define "framegrid.rayEnv" -}}
- {name: HOME, value: /tmp}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
# Libraries that would otherwise start a thread for each core of the node in every process.
- {name: OMP_NUM_THREADS, value: "1"}
- {name: OPENBLAS_NUM_THREADS, value: "1"}
# Ten times cheaper than Serve's own proxy.
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_HAPROXY_NBTHREAD, value: "1"}
# On a busy node a proxy takes longer than Ray's 5 s to come up, and was killed half way.
- {name: RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S, value: "60"}
- {name: RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S, value: "30"}
- {name: RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S, value: "60"}
# The controller looks around twice a second instead of ten times.
- {name: RAY_SERVE_CONTROL_LOOP_INTERVAL_S, value: "0.5"}
# Frames take well under a second.
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S, value: "5"}
# Replicas are the work of the pod, not its background.
- {name: RAY_worker_niceness, value: "0"}
# Logs lie on an emptyDir of bounded size.
- {name: RAY_ROTATION_MAX_BYTES, value: "10000000"}
- {name: RAY_ROTATION_BACKUP_COUNT, value: "2"}
{{- include "framegrid.env" .Values.serve.env }}
{{- end }}

{{- define "framegrid.rayAuthEnv" -}}
{{- if .Values.ray.auth.enabled }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "framegrid.raySecret" . }}, key: auth_token}}
{{- end }}
{{- end }}

{{- define "framegrid.rayMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.serve.modelVolume }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end }}

{{- define "framegrid.rayVolumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 4Gi}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: 256Mi}}
{{- with .Values.serve.modelVolume }}
- name: models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "framegrid.workerResources" -}}
{{- $cpus := .Values.ray.workerCpus -}}
requests:
  cpu: {{ .Values.ray.worker.cpuRequest | default $cpus | quote }}
  memory: {{ .Values.ray.worker.memory.request }}
limits:
  cpu: {{ .Values.ray.worker.cpuLimit | default $cpus | quote }}
  memory: {{ .Values.ray.worker.memory.limit }}
  {{- if .Values.ray.workerGpus }}
  nvidia.com/gpu: {{ .Values.ray.workerGpus }}
  {{- end }}
{{- end }}

{{/* The Serve config, the same for both modes but for the number of replicas. */}}
{{- define "framegrid.serveConfig" -}}
{{- $detector := merge (dict "name" "detector") (deepCopy .Values.serve.deployment) }}
{{- $scale := deepCopy .Values.serve.autoscaling }}
{{- if eq .Values.ray.mode "static" }}
{{- /* A worker without a replica answers no health check and would never be Ready. */}}
{{- $_ := set $scale "min_replicas" (int .Values.ray.static.workers) }}
{{- $_ := set $scale "max_replicas" (int .Values.ray.static.workers) }}
{{- $_ := set $detector "max_replicas_per_node" 1 }}
{{- end }}
{{- $_ := set $detector "num_replicas" "auto" }}
{{- $_ := set $detector "autoscaling_config" $scale }}
{{- $args := deepCopy .Values.serve.args }}
{{- if .Values.ray.workerGpus }}{{ $_ := set $args "gpus_per_replica" (int .Values.ray.workerGpus) }}{{ end }}
{{- if .Values.videos.enabled }}
{{- $_ := set $args "people" (merge (dict "videos_url" (include "framegrid.videosUrl" .)) ($args.people | default dict)) }}
{{- end }}
{{- $app := dict "name" "framegrid" "route_prefix" "/" "import_path" "framegrid_serve.app:build_app" "args" $args "deployments" (list $detector) }}
{{- toYaml (merge (dict "applications" (list $app)) (deepCopy .Values.serve.config)) }}
{{- end }}
