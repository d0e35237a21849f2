# Prints the lines of registry.py's `images` for each of $images: what the registry has; then "pushed IMAGE DIGEST".
# $images is empty before DWS's manifests were read: then for the images that were pushed the last time, mostly the same ones.
[ -n "$images" ] || images=$(cut -d' ' -f1 "$record" 2>/dev/null) || true
# shellcheck disable=SC2086  # a word for each image
[ -z "$images" ] || ask_registry images $images || exit 1
sed 's/^/pushed /' "$record" 2>/dev/null || true
