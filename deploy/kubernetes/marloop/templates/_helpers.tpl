{{- define "marloop.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels of an object: root context and component. */}}
{{- define "marloop.labels" -}}
{{ include "marloop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "marloop.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The groups with the defaults in them, as YAML; a group without exactly one source of models is an error. */}}
{{- define "marloop.groups" -}}
{{- range $name, $group := .Values.groups }}
{{- $merged := mergeOverwrite (deepCopy $.Values.defaults) $group }}
{{- if eq (not $merged.archives) (not $merged.store) }}
{{- fail (printf "groups.%s needs one of archives and store, and not both" $name) }}
{{- end }}
{{ $name | quote }}: {{ toJson $merged }}
{{- end }}
{{- end }}

{{- define "marloop.service" -}}
{{ printf "%s-%s" (include "marloop.name" .root) .group | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "marloop.image" -}}
{{ printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}

{{/* What every pod has: a user without rights, and no variables of Services, whose names (such
as MARLOOP_MONITOR_PORT) would be taken for settings. */}}
{{- define "marloop.pod" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "marloop.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* An emptyDir can be written to by everybody, so that no folder in it counts as ours: private ones are made in it (names), and
in the volume of retrainings (shared), and each is mounted alone. */}}
{{- define "marloop.folders" -}}
- name: folders
  image: {{ .image | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [sh, -c, "umask 077 && mkdir -p{{ range .names }} /scratch/{{ . }}{{ end }}{{ range .shared }} /shared/{{ . }}{{ end }}"]
  {{- include "marloop.container" .root | nindent 2 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {cpu: 100m, memory: 64Mi}
  volumeMounts:
    - {name: scratch, mountPath: /scratch}
    {{- if .shared }}
    - {name: work, mountPath: /shared}
    {{- end }}
{{- end }}

{{/* The container that fetches archives, checks them and registers them. */}}
{{- define "marloop.register" -}}
- name: register
  image: {{ .image | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [python, -m, serving, register]
  args:
    {{- range .archives }}
    - {{ printf "%s#sha256=%s" .url .sha256 | quote }}
    {{- end }}
  {{- include "marloop.container" .root | nindent 2 }}
  env:
    - {name: MARLOOP_MODEL_STORE, value: /models}
    {{- include "marloop.publicKey" .root | nindent 4 }}
    {{- include "marloop.storeSettings" .root | nindent 4 }}
  {{- include "marloop.storeSecret" .root | nindent 2 }}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {cpu: "1", memory: 1Gi}
  volumeMounts:
    - {name: scratch, mountPath: /models, subPath: models}
    - {name: scratch, mountPath: /tmp, subPath: register}
    {{- include "marloop.publicKeyMount" .root | nindent 4 }}
{{- end }}

{{- define "marloop.storeSettings" -}}
{{- range $name, $value := .Values.storeSettings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "marloop.storeSecret" -}}
{{- with .Values.storeSecret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "marloop.monitorUrl" -}}
http://{{ include "marloop.name" . }}-monitor:8090
{{- end }}

{{/* The path that a ready pod answers 200. One that follows a store stays ready where the store names a version that
cannot be loaded: the former one serves on, and all pods would be unready at once. */}}
{{- define "marloop.readiness" -}}
{{- if .root.Values.probes.readiness }}{{ .root.Values.probes.readiness }}
{{- else if .group.store }}/v2/health/live
{{- else if and (eq (len .group.models) 1) (not .root.Values.apiKeys.secret) }}/v2/models/{{ first .group.models }}/ready
{{- else }}/v2/health/ready
{{- end }}
{{- end }}

{{/* Backends of a model's route: the groups that serve it, a canary with its weight and the others with the rest. */}}
{{- define "marloop.backends" -}}
{{- $groups := include "marloop.groups" .root | fromYaml }}
{{- $canary := 0 }}{{ $stable := 0 }}
{{- range $name, $group := $groups }}
{{- if has $.model $group.models }}
{{- if $group.canaryWeight }}{{ $canary = add $canary $group.canaryWeight }}{{ else }}{{ $stable = add $stable 1 }}{{ end }}
{{- end }}
{{- end }}
{{- if ne (int $stable) 1 }}{{ fail (printf "%s needs one group without canaryWeight among those that name it in models, and has %d" .model (int $stable)) }}{{ end }}
{{- if ge (int $canary) 100 }}{{ fail (printf "the canaries of %s have a weight of %d; less than 100 is left for the other group then" .model (int $canary)) }}{{ end }}
{{- range $name, $group := $groups }}
{{- if has $.model $group.models }}
- name: {{ include "marloop.service" (dict "root" $.root "group" $name) }}
  port: 8080
  weight: {{ if $group.canaryWeight }}{{ $group.canaryWeight }}{{ else }}{{ sub 100 $canary }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names of all models that groups list, as a YAML list. */}}
{{- define "marloop.models" -}}
{{- $models := list }}
{{- range $name, $group := include "marloop.groups" . | fromYaml }}
{{- $models = concat $models $group.models }}
{{- end }}
{{- toJson (dict "models" ($models | uniq | sortAlpha)) }}
{{- end }}

{{/* The public key that archives are signed for: variable, mount and volume of a container that checks them. */}}
{{- define "marloop.publicKey" -}}
{{- if .Values.publicKey }}
- {name: MARLOOP_PUBLIC_KEY, value: /run/config/marloop-key/signing.pub}
{{- end }}
{{- end }}

{{- define "marloop.publicKeyMount" -}}
{{- if .Values.publicKey }}
- {name: key, mountPath: /run/config/marloop-key, readOnly: true}
{{- end }}
{{- end }}

{{- define "marloop.publicKeyVolume" -}}
{{- if .Values.publicKey }}
- name: key
  configMap: {name: {{ include "marloop.name" . }}-public-key}
{{- end }}
{{- end }}

{{/* The store of a claim, as a mount: store and readOnly. */}}
{{- define "marloop.storeMount" -}}
- name: store
  mountPath: /models
  readOnly: {{ .readOnly }}
  {{- with .store.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}

{{/* The store whose contracts the monitor reads, as YAML; empty where groups have archives. */}}
{{- define "marloop.monitorStore" -}}
{{- $archives := false }}{{ $stores := list }}
{{- range $name, $group := include "marloop.groups" . | fromYaml }}
{{- if not $group.canaryWeight }}
{{- if $group.archives }}{{ $archives = true }}{{ else }}{{ $stores = append $stores $group.store }}{{ end }}
{{- end }}
{{- end }}
{{- if .Values.monitor.store }}{{ toYaml .Values.monitor.store }}
{{- else if $stores }}
{{- if or $archives (gt (len $stores) 1) }}{{ fail "groups have stores of their own: name the one whose contracts the monitor reads in monitor.store" }}{{ end }}
{{- toYaml (first $stores) }}
{{- end }}
{{- end }}
