{{/* The Job of a training; the monitor fills in its name, its command and its variables. */}}
{{- define "marloop.job" -}}
{{- $training := .Values.training }}
{{- $labels := dict "root" . "component" "training" }}
{{- $store := include "marloop.monitorStore" . | fromYaml }}
apiVersion: batch/v1
kind: Job
metadata:
  labels: {{- include "marloop.labels" $labels | nindent 4 }}
spec:
  activeDeadlineSeconds: {{ $training.deadlineSeconds }}
  template:
    metadata:
      labels: {{- include "marloop.selector" $labels | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      {{- include "marloop.pod" . | nindent 6 }}
      initContainers:
        {{- include "marloop.folders" (dict "root" . "image" (include "marloop.image" (dict "root" . "image" .Values.monitor.image)) "names" (list "tmp")) | nindent 8 }}
      containers:
        - name: train
          image: {{ include "marloop.image" (dict "root" . "image" .Values.monitor.image) | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          {{- include "marloop.container" . | nindent 10 }}
          env:
            - {name: MARLOOP_MODEL_STORE, value: {{ default "/models" (dig "url" "" $store) | quote }}}
            - {name: MARLOOP_RUN_DIR, value: /work/monitor}
            {{- include "marloop.publicKey" . | nindent 12 }}
            {{- if $training.signingSecret }}
            - {name: MARLOOP_SIGNING_KEY, value: /run/secrets/marloop-signing/signing.pem}
            {{- end }}
            {{- range $variable, $value := $training.settings }}
            - {name: {{ $variable }}, value: {{ $value | quote }}}
            {{- end }}
            {{- if dig "url" "" $store }}
            {{- include "marloop.storeSettings" . | nindent 12 }}
          {{- include "marloop.storeSecret" . | nindent 10 }}
            {{- end }}
          resources: {{- toYaml $training.resources | nindent 12 }}
          volumeMounts:
            - {name: scratch, mountPath: /tmp, subPath: tmp}
            - {name: work, mountPath: /work, subPath: work}
            {{- if dig "claim" "" $store }}
            {{- include "marloop.storeMount" (dict "store" $store "readOnly" false) | nindent 12 }}
            {{- end }}
            {{- include "marloop.publicKeyMount" . | nindent 12 }}
            {{- if $training.signingSecret }}
            - {name: signing, mountPath: /run/secrets/marloop-signing, readOnly: true}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: {sizeLimit: {{ $training.scratch }}}
        - name: work
          persistentVolumeClaim: {claimName: {{ $training.claim }}}
        {{- with dig "claim" "" $store }}
        - name: store
          persistentVolumeClaim: {claimName: {{ . }}}
        {{- end }}
        {{- include "marloop.publicKeyVolume" . | nindent 8 }}
        {{- with $training.signingSecret }}
        - name: signing # alone here: neither pods that serve nor the monitor can sign
          secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: signing.pem, path: signing.pem}]}
        {{- end }}
{{- end }}
