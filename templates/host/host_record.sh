# Prints this host's before-images of the run $first and all later runs, a line each:
#   image RUN MODE OWNER SUM CONTENT PATH   absent RUN PATH   left RUN SUM PATH   object RUN {...}   conf CONTENT
#   certificate RUN CERTIFICATE PATH: of each user in a kubeconfig, whatever its path
#   space RUN NAMESPACE PATH: the namespace in that kubeconfig; RUN is "-" for the present one ($kubeconfig)
#   means PATH, a tab, MEANING: the usual path of the same file (one of $literals)
# CONTENT is base64; "-": empty; "?": it contains a secret, or a run recorded it as one. Secrets stay on this host.
# Goes after safe_file.sh and holds_secret.sh. Set before: $state, $first, $literals (paths, a line each),
# $conf (a controller's slurm.conf, "" elsewhere), $kubeconfig
tab=$(printf '\t')
known=$(printf '%s\n' "$literals" | while IFS= read -r one; do printf '%s\t%s\n' "$(readlink -m -- "$one")" "$one"; done)
meaning() {
    where=$(readlink -m -- "$1")
    said=$(printf '%s\n' "$known" | while IFS= read -r line; do
        if [ "${line%%"$tab"*}" = "$where" ]; then printf '%s\n' "${line#*"$tab"}"; break; fi
    done)
    printf '%s\n' "${said:-$where}"
}
namespace() { # of the kubeconfig on standard input; an invalid name counts as missing
    found=$(sed -n 's/^[- ]*"*namespace"* *: *"*\([a-z0-9-]\{1,63\}\)"*,*$/\1/p' | head -n 1)
    printf '%s\n' "${found:-default}"
}
runs() { for run in *; do if [ ! "$run" \< "$first" ] && [ -d "$run" ]; then printf '%s\n' "$run"; fi; done; }
# a pipe hides that its first command failed: so each list is read completely before it is used
images() { images_=$(find "$1" -mindepth 2 -type f ! -name '*.part') && printf '%s\n' "$images_" | sed "s|^$1||; /^\$/d"; }
paths() {
    paths_=$(runs | while IFS= read -r run; do images "$run" || exit 1; done) && printf '%s\n' "$paths_" | sed 's/\.absent$//; /^$/d' | sort -u
}
withheld() {
    printf '%s\n' "$secrets" | grep -qxF -e "$path" && return 0
    if [ "$(meaning "$path")" = "$conf" ]; then holds_key "$content"; else holds_secret "$content"; fi
}
plain() { printf %s "$content" | base64 -d; }
one() { # RUN PATH
    image=$1$2
    path=$2
    case $image in
    *.absent) printf 'absent %s %s\n' "$1" "${path%.absent}"; return ;;
    esac
    content=$(base64 -w 0 "$image") && sum=$(checksum "$image") && mode=$(stat -c '%a %U:%G' -- "$image") || return 1
    plain | grep -aoE 'client-certificate-data"? *: *"?[A-Za-z0-9+/=]*' | sed 's/.*[: "]//' |
        while IFS= read -r data; do printf 'certificate %s %s %s\n' "$1" "${data:--}" "$path"; done
    if plain | grep -aq client-certificate-data; then printf 'space %s %s %s\n' "$1" "$(plain | namespace)" "$path"; fi
    if withheld; then content='?'; fi
    printf 'image %s %s %s %s %s\n' "$1" "$mode" "$sum" "${content:--}" "$path"
}
if [ -e "$conf" ]; then
    content=$(read_file "$conf" base64 -w 0) || exit 1
    printf 'conf %s\n' "$content"
fi
if [ -n "$conf" ] && [ -e "$kubeconfig" ]; then
    text=$(read_file "$kubeconfig") || exit 1
    printf 'space - %s %s\n' "$(printf '%s\n' "$text" | namespace)" "$kubeconfig"
fi
cd "$state/before" 2>/dev/null || exit 0
secrets=$(for one in */.record; do [ ! -e "$one" ] || sed -n 's/^secret //p' "$one" || exit 1; done) || exit 1
all=$(paths) || exit 1
[ -z "$all" ] || printf '%s\n' "$all" | while IFS= read -r path; do printf 'means %s\t%s\n' "$path" "$(meaning "$path")"; done
runs | while IFS= read -r run; do
    mine=$(images "$run") || exit 1
    [ -z "$mine" ] || printf '%s\n' "$mine" | while IFS= read -r path; do one "$run" "$path" || exit 1; done || exit 1
    [ ! -e "$run/.record" ] || sed -n "s/^left /left $run /p" "$run/.record" || exit 1
    [ ! -e "$run/.objects" ] || sed -n "s/^{/object $run {/p" "$run/.objects" || exit 1
done
