# How the plugin reaches the API server from here: with the kubeconfig $file, as SlurmUser, with slurmctld's kubectl. A call of $slow
# milliseconds or more is repeated, at most twice: the quickest counts. Prints "name=value" lines, and nothing secret. Only reads.
# Goes after temporary.sh and slurmctld.sh. Set before: $folder, $unit, $file, $slow.
fact user "$slurm_name"
token=/var/run/secrets/kubernetes.io/serviceaccount/token
[ ! -e "$token" ] || echo "token=$token"
[ -e "$file" ] || exit 0
echo there=yes
choose_runner "$file" 2>/dev/null || exit 0
as "$runner" test -w /tmp -a -x /tmp || fact closed "$(stat -c '%a %U' /tmp)"
find_slurm
# slurmctld's own view of it: its unit may have made it read-only (ProtectSystem=strict), for whoever runs in it
seen=/proc/$main/root/tmp
if [ -n "$main" ] && [ -d "$seen" ] && [ ! -w "$seen" ] && [ -w /tmp ]; then
    # shellcheck disable=SC2046 # paths of units have no blanks
    fact sealed "$(grep -lE '^ *(ProtectSystem|ReadOnlyPaths|ReadOnlyDirectories|InaccessiblePaths) *=' \
        $(systemctl show -p FragmentPath -p DropInPaths --value "$unit" 2>/dev/null) /dev/null 2>/dev/null | paste -sd ' ' -)"
fi
if ! as "$runner" cat -- "$file" >/dev/null 2>&1; then exit 0; fi
echo readable=yes
! as "$runner" grep -qE '^[[:space:]-]*"?(token|tokenFile)"?:' -- "$file" || fact token "$file"
make_memory_folder "$runner"
remove_at_exit "$work"
kubectl_path=$(path_of "$(main_pid)")
kubectl_path=${kubectl_path:-$PATH}
# slurmctld passes its environment on to kubectl, which asks through the proxy that it names. One with a password is left out: it
# would be seen in the list of processes.
variables=$(main=$(main_pid); [ -z "$main" ] || read_proc "$main" environ | tr '\0' '\n' | grep -aiE '^(https|no)_proxy=[^[:space:]@]+$' | sort)
# variable NAME: its value there; a name in capitals comes first, as for kubectl
variable() { printf '%s\n' "$variables" | sed -n "s/^$1=//Ip" | head -n 1; }
kubectl_proxy=$(variable https_proxy) kubectl_direct=$(variable no_proxy)
# It also passes on the limit of its address space (LimitAS of its unit), in KiB here: "" where it has none.
memory=$(main=$(main_pid); [ -z "$main" ] || read_proc "$main" limits | awk '/^Max address space/ && $4 ~ /^[0-9]+$/ { printf "%.0f\n", $4 / 1024 }')
# limited COMMAND...: within that limit
limited() (
    [ -z "$memory" ] || ulimit -v "$memory" 2>/dev/null
    "$@"
)
# ask PATH: sets $code and $took, and leaves in $work/said what kubectl says. Verbosity 6 tells of each request its URL, the answer's
# code and the time, and nothing of what was sent.
ask() {
    began=$(date +%s%N)
    code=0
    limited runner_kubectl 20 "$file" --request-timeout 15s -v 6 get --raw "$1" >/dev/null 2>"$work/said" </dev/null || code=$?
    took=$((($(date +%s%N) - began) / 1000000))
}
status() {
    sed -n 's/.* status="\([0-9][0-9][0-9]\)[ "].*/\1/p; s/.*GET https[^ ]* \([0-9][0-9][0-9]\) .* in .*/\1/p' "$work/said" | tail -n 1
}
tries=0
quickest=
while :; do
    ask /version
    tries=$((tries + 1))
    if [ "${quickest:-$took}" -ge "$took" ]; then quickest=$took; fi
    # a host that stood still for a moment makes one call slow, and not three
    if [ "$code" != 0 ] || [ "$took" -lt "$slow" ] || [ "$tries" -ge 3 ]; then break; fi
done
echo "milliseconds=$quickest"
echo "code=$code"
# Each request, answered or not, is a line of it; where a kubeconfig can't be used at all there is none.
# kubectl itself may be what fails: its file may be cut off, or of another architecture.
if grep -qE '(GET |url=")https:' "$work/said"; then
    echo asked=yes
elif [ "$code" != 0 ] && [ "$code" != 124 ] && ! runner_kubectl 20 /dev/null version --client >/dev/null 2>&1 </dev/null; then
    echo broken=yes
fi
answered=$(status)
[ -z "$answered" ] || fact status "$answered"
# where its runtime ends it, the reason comes first, and many lines follow
{ grep -a '^fatal error: ' "$work/said" || grep -av '^[IWE][0-9]' "$work/said" | tail -n 1; } | sed -n '1s/^/said=/p'

# --- the same again, without what may be the cause
if [ "$code" = 0 ]; then
    ask /apis
    [ "$(status)" != 403 ] || echo undiscovered=yes
elif [ -n "$memory" ] && limit=$memory && memory= && ask /version && [ "$code" = 0 ]; then
    fact limit "$limit"
elif [ -n "$kubectl_proxy" ]; then
    proxy=$kubectl_proxy
    kubectl_proxy=
    ask /version
    if [ "$code" = 0 ]; then
        fact proxy "$proxy"
        fact direct "$kubectl_direct"
    fi
else
    first=$(PATH=${kubectl_path:-$PATH}; command -v kubectl)
    if [ "$(as "$runner" head -c 2 -- "$first" 2>/dev/null)" = '#!' ]; then
        kubectl_path=$(printf '%s\n' "$kubectl_path" | tr : '\n' | grep -vxF "${first%/*}" | paste -sd : -)
        ask /version
        if [ "$code" = 0 ]; then fact script "$first"; fi
    fi
fi
