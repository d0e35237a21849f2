# What the registry has of each of $images: "IMAGE MANIFEST HTTP-CODE" a line, the manifest in one line; then what was pushed.
# Without $images, before the manifests were read: those that were pushed the last time, mostly the same ones.
login=$(credential curl) || exit 1
[ -n "$images" ] || images=$(cut -d' ' -f1 "$record" 2>/dev/null) || true
accept='Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'
for image in $images; do
    name=${image#*/}
    printf 'image %s ' "$image"
    ask "/v2/${name%:*}/manifests/${name##*:}" --header "$accept" --write-out ' %{http_code}' | tr -d '\n' || true
    echo
done
sed 's/^/pushed /' "$record" 2>/dev/null || true
