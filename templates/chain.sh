# The before-images that lie on this host of the run $first and all later ones, a line each:
#   image RUN MODE OWNER SUM CONTENT PATH   absent RUN PATH   left RUN SUM PATH   object RUN {...}   now SUM PATH
# CONTENT is base64; "-" for the kubeconfig, of which the certificate alone is told: certificate RUN BASE64
# Set before: $state, $first, $kubeconfig, $conf
file_sum() { if [ -e "$1" ]; then sha256sum <"$1" | cut -d' ' -f1; else echo absent; fi; }
paths() {
    for run in *; do
        if [ "$run" \< "$first" ] || [ ! -d "$run" ]; then continue; fi
        find "$run" -mindepth 2 -type f ! -name '*.part' | sed "s|^$run||; s|\\.absent\$||"
    done | sort -u
}
one() {
    image=$1/$2
    path=/$2
    case $image in
    *.absent) echo "absent $1 ${path%.absent}"; return ;;
    esac
    content=-
    if [ "$path" = "$kubeconfig" ]; then
        sed -n "s/^[- ]*client-certificate-data: *\"*\\([^\"]*\\)\"*\$/certificate $1 \\1/p" "$image" | head -n 1
    else
        content=$(base64 -w 0 "$image")
    fi
    echo "image $1 $(stat -c '%a %U:%G' -- "$image") $(file_sum "$image") ${content:--} $path"
}
real() { if [ -L "$1" ]; then readlink -f -- "$1"; else printf '%s\n' "$1"; fi; }
[ ! -e "$conf" ] || echo "conf $(real "$conf") $(base64 -w 0 "$conf")"
cd "$state/before" 2>/dev/null || exit 0
for run in *; do
    if [ "$run" \< "$first" ] || [ ! -d "$run" ]; then continue; fi
    find "$run" -mindepth 2 -type f ! -name '*.part' | sed "s|^$run/||" | while IFS= read -r name; do one "$run" "$name"; done
    [ ! -e "$run/.record" ] || sed -n "s/^left /left $run /p" "$run/.record"
    [ ! -e "$run/.objects" ] || sed -n "s/^{/object $run {/p" "$run/.objects"
done
paths | while IFS= read -r path; do echo "now $(file_sum "$path") $path"; done
