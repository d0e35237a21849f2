# Copies images to the registry, in parallel. Lines "start IMAGE DIGEST KNOWN SOURCE..." and then "finish" follow it. DIGEST is of
# the image's configuration in the registry, or a word; KNOWN is the digest of the wanted one, if known. Another image under that
# name is replaced only where KNOWN is a digest: then somebody confirmed it. A SOURCE is a name, or the path of an archive.
work=$(own_folder) || exit 1
remove_at_exit "$work"
started=
transport() {
    case $1 in /*) ;; *) return ;; esac
    if tar -tf "$1" | grep -qx '\(\./\)\{0,1\}oci-layout'; then printf oci-archive:; else printf docker-archive:; fi
}
bring() {
    image=$1 there=$2 known=$3
    shift 3
    asked=1
    digest=
    for source in "$@"; do
        printf '%s\n' "pulling $source"
        if digest=$(with_proxy podman pull --quiet -- "$(transport "$source")$source"); then break; fi
    done
    if [ -z "$digest" ]; then
        printf '%s\n' "none of these sources has $image: $*"
        return 1
    fi
    digest=sha256:$(printf '%s\n' "$digest" | tail -n 1)
    if [ "$digest" = "$there" ]; then
        printf '%s\n' "the registry has $image already"
    elif case $there,$known in sha256:*,sha256:*) false ;; sha256:*) ;; *) false ;; esac; then
        printf '%s\n' "the registry has another image as $image: $there, which this tool did not push; $digest is wanted." \
            "It was not replaced. Run the same command again: it prompts before it replaces that image (or pass --yes)."
        asked=0
    else
        podman tag -- "${digest#sha256:}" "$image"
        printf '%s\n' "pushing $image"
        # without --tls-verify: then podman verifies TLS unless registries.conf says otherwise, as registry.py does
        ask_registry authfile | podman push --quiet --authfile /dev/stdin -- "$image" || {
            # podman repeats what failed in between, and finds nothing on its standard input then
            printf '%s\n' "podman reads the password once: the cause is what it reported first for $image, not an error of /dev/stdin"
            return 1
        }
    fi
    printf '%s %s\n' "$image" "$digest" >"$work/${image##*/}"
    [ "$asked" = 1 ]
}
start() {
    bring "$@" &
    started="$started $!"
}
finish() {
    failed=0
    for one in $started; do wait "$one" || failed=1; done
    for one in "$work"/*; do
        [ -e "$one" ] || continue
        { grep -v "^$(cut -d' ' -f1 "$one") " "$record" 2>/dev/null || true; cat "$one"; } >"$record.part"
        rename_synced "$record.part" "$record" # of durable.sh, which all actions have
    done
    return $failed
}
