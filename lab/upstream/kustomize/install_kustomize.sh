#!/bin/bash
# A fake of kustomize's install script, written for the lab.
# install_kustomize.sh [VERSION [FOLDER]]: download that version's release and put kustomize into FOLDER.
set -e -o pipefail
version=${1:-5.1.1}
folder=$(readlink -f "${2:-.}")
if [ -e "$folder/kustomize" ]; then
    echo "$folder/kustomize exists. Remove it first." >&2
    exit 1
fi
releases=https://github.com/kubernetes-sigs/kustomize/releases/download
curl -fsSL "$releases/kustomize%2Fv$version/kustomize_v${version}_linux_amd64.tar.gz" | tar -xz -C "$folder" kustomize
echo "kustomize installed to $folder/kustomize"
