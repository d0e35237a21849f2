#!/bin/bash
# A fake DataWorkflowServices, written for the lab.
# make-kustomization.sh FOLDER OVERLAY IMAGE TAG: write FOLDER/kustomization.yaml, the overlay with the image at that tag.
set -e
mkdir -p "$1"
printf '%s\n' \
    'apiVersion: kustomize.config.k8s.io/v1beta1' \
    'kind: Kustomization' \
    'resources:' \
    "- ../$2" \
    'images:' \
    "- name: $3" \
    "  newTag: $4" > "$1/kustomization.yaml"
