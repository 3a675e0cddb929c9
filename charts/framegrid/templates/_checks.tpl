{{/* What a schema cannot say: one sentence, and nothing is installed. */}}
{{- define "framegrid.checks" -}}
{{- if and (eq .Values.ray.mode "kuberay") (not (.Capabilities.APIVersions.Has "ray.io/v1/RayService")) }}
{{- fail "ray.mode: kuberay needs the KubeRay operator, and this cluster has no ray.io/v1 RayService; install the operator (https://docs.ray.io/en/latest/cluster/kubernetes/getting-started/kuberay-operator-installation.html) or set ray.mode=static" }}
{{- end }}
{{- end }}
