{{/* The name of all that the chart makes; at most 53 characters, so that a suffix fits. */}}
{{- define "warp.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What every object of the release has and no other release's. */}}
{{- define "warp.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What the operator's pods have and no others. */}}
{{- define "warp.selectorLabels" -}}
{{ include "warp.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "warp.labels" -}}
{{ include "warp.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "warp.serviceAccountName" -}}
{{- default (include "warp.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The account of the Job at the release's end; the operator's where the chart may make none. */}}
{{- define "warp.cleanupServiceAccountName" -}}
{{- ternary (printf "%s-cleanup" (include "warp.fullname" .)) .Values.serviceAccount.name .Values.serviceAccount.create -}}
{{- end -}}

{{/*
Not empty if the release's end is the end of all that Warp made. WarpClusters and WarpPolicies that
outlive it, because their definitions do, are not deleted, nor is what runs for them.
*/}}
{{- define "warp.cleans" -}}
{{- if and .Values.cleanup.enabled .Values.crds.install (not .Values.crds.keep) -}}yes{{- end -}}
{{- end -}}

{{- define "warp.certsSecretName" -}}
{{- default (printf "%s-webhook-tls" (include "warp.fullname" .)) .Values.certs.secretName -}}
{{- end -}}

{{- define "warp.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{/* What the restricted pod security standard asks of a container, and a bit more. */}}
{{- define "warp.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- define "warp.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Environment of every run of the operator's program. */}}
{{- define "warp.operatorEnv" -}}
- name: RUST_LOG
  value: {{ .Values.log | quote }}
{{- if .Values.logJson }}
- name: WARP_LOG_JSON
  value: "true"
{{- end }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}

{{/* Namespaces whose pods are never injected, as a requirement of a namespace selector. */}}
{{- define "warp.excludedNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    {{- toYaml (concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq) | nindent 4 }}
{{- end -}}
