# Prints the lines of registry.py's `images` for each of $images: what the registry has; then "pushed IMAGE DIGEST". Goes after
# registry_seen.sh.
if [ -z "$images" ]; then
    :
elif [ -n "$registry_seen" ]; then
    secret_problem=$(printf '%s\n' "$registry_seen" | sed -n '2s/^secret //p')
    [ -z "$secret_problem" ] || { printf '%s\n' "$secret_problem" >&2; exit 1; }
    printf '%s\n' "$registry_seen" | sed 1d
else
    # shellcheck disable=SC2086  # a word for each image
    ask_registry images $images || exit 1
fi
sed 's/^/pushed /' "$record" 2>/dev/null || true
