#!/bin/bash
# A fake DataWorkflowServices, written for the lab.
# make-kustomization.sh FOLDER OVERLAY IMAGE TAG: write FOLDER/kustomization.yaml, the overlay with the image at that tag,
# and its Deployments labelled with it.
set -e
mkdir -p "$1"
printf '%s\n' \
    'apiVersion: kustomize.config.k8s.io/v1beta1' \
    'kind: Kustomization' \
    'resources:' \
    "- ../$2" \
    'patches:' \
    '- target: {kind: Deployment}' \
    '  patch: |-' \
    "    - {op: add, path: /metadata/labels/app.kubernetes.io~1version, value: \"$4\"}" \
    '    - {op: add, path: /metadata/labels/app.kubernetes.io~1component, value: dws}' \
    'images:' \
    "- name: $3" \
    "  newTag: $4" > "$1/kustomization.yaml"
