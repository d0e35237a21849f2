# Prints a line "image IMAGE MANIFEST HTTP-CODE" for each of $images, with the registry's manifest; then "pushed IMAGE DIGEST".
# $images is empty before DWS's manifests were read: then for the images that were pushed the last time, mostly the same ones.
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
