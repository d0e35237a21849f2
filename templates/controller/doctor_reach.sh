# How the plugin reaches the API server from here: with the kubeconfig $file, as SlurmUser, with slurmctld's kubectl. A call of $slow
# milliseconds or more is repeated, at most twice: the quickest counts. Prints "name=value" lines, and nothing secret. Only reads.
# Goes after temporary.sh and slurmctld.sh. Set before: $folder, $unit, $file, $slow.
fact user "$slurm_name"
token=/var/run/secrets/kubernetes.io/serviceaccount/token
[ ! -e "$token" ] || echo "token=$token"
[ -e "$file" ] || exit 0
echo there=yes
choose_runner "$file" 2>/dev/null || exit 0
find_slurm
if ! as "$runner" cat -- "$file" >/dev/null 2>&1; then exit 0; fi
echo readable=yes
! as "$runner" grep -qE '^[[:space:]-]*"?(token|tokenFile)"?:' -- "$file" || fact token "$file"
make_memory_folder "$runner"
remove_at_exit "$work"
kubectl_path=$(path_of "$(main_pid)")
kubectl_path=${kubectl_path:-$PATH}
tries=0
quickest=
while :; do
    began=$(date +%s%N)
    # verbosity 6 tells of each request its URL, the answer's code and the time, and nothing of what was sent
    code=0
    runner_kubectl 20 "$file" --request-timeout 15s -v 6 get --raw /version >/dev/null 2>"$work/said" </dev/null || code=$?
    took=$((($(date +%s%N) - began) / 1000000))
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
elif [ "$code" != 0 ] && [ "$code" != 124 ] && ! runner_kubectl 20 /dev/null version --client >/dev/null 2>"$work/said" </dev/null; then
    echo broken=yes
fi
sed -n 's/.* status="\([0-9][0-9][0-9]\)[ "].*/status=\1/p; s/.*GET https[^ ]* \([0-9][0-9][0-9]\) .* in .*/status=\1/p' "$work/said" | tail -n 1
grep -av '^[IWE][0-9]' "$work/said" | tail -n 1 | sed 's/^/said=/'
