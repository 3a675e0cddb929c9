{{/* The simulator's cameras. Scene and lines go by the number of the camera, as framegrid_sim deals them out. */}}
{{- define "framegrid.simCameras" -}}
{{- $cameras := list }}
{{- if .Values.sim.enabled }}
{{- $scenes := .Files.Get "files/sim-scenes.yaml" | fromYaml }}
{{- $digits := toString (int .Values.sim.cameras) | len }}
{{- range $i := until (int .Values.sim.cameras) }}
  {{- $name := printf "sim-%0*d" $digits (add1 $i | int) }}
  {{- $scene := index $scenes.scenes (mod $i (len $scenes.scenes)) }}
  {{- $url := printf "http://%s-sim.%s.svc:8090/cameras/%s/stream.mjpg" (include "framegrid.fullname" $) $.Release.Namespace $name }}
  {{- $cameras = append $cameras (merge (dict "name" $name "url" $url "fps" $.Values.sim.fps "site" "sim") (deepCopy $scene)) }}
{{- end }}
{{- end }}
{{- toYaml $cameras }}
{{- end }}
