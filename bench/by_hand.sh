#!/bin/sh
# The procedure as an administrator types it, one command after the other, each through ssh, waits included.
# It is what `invoke install` is measured against; it checks nothing that the procedure doesn't tell to check.
#   by_hand.sh SSH_CONFIG USER PARTITION CONTROLLER...   on a pristine site
set -eu
config=$1 user=$2 partition=$3
shift 3
first=$1
master() { ssh -F "$config" ncn-m001 "$@"; }
now() { date +%s.%N; }
waited=0
waits() { # a command of which the whole time is waiting for pods
    from=$(now)
    "$@"
    waited=$(echo "$waited $from $(now)" | awk '{print $1 + $3 - $2}')
}
began=$(now)

# DWS on the master
master 'git clone -q https://github.com/DataWorkflowServices/dws.git dws'
master 'cd dws && git -c advice.detachedHead=false checkout -q v0.0.20'
name=$(master "kubectl get secret -n nexus nexus-admin-credential --template '{{.data.username | base64decode}}'")
word=$(master "kubectl get secret -n nexus nexus-admin-credential --template '{{.data.password | base64decode}}'")
for pair in ghcr.io/dataworkflowservices/dws:0.0.20=dws:0.0.20 quay.io/brancz/kube-rbac-proxy:v0.14.1=kube-rbac-proxy:v0.14.1; do
    from=${pair%%=*} to=registry.local/${pair#*=}
    master "podman pull -q $from"
    master "podman tag $from $to"
    printf '{"auths":{"registry.local":{"auth":"%s"}}}' "$(printf '%s:%s' "$name" "$word" | base64 -w0)" |
        master "podman push -q --authfile /dev/stdin $to"
done
master 'cd dws && make kustomize'
master 'cd dws && make deploy OVERLAY=csm'
waits master 'kubectl wait deployment -n dws-system dws-controller-manager --for condition=Available --timeout=120s'
waits master 'kubectl wait deployment -n dws-system dws-webhook --for condition=Available --timeout=120s'
master 'kubectl get deployments -n dws-system'

# key, certificate, kubeconfig, role
pki=/etc/kubernetes/pki
k=slurm-dws.kubeconfig
master 'openssl genrsa -out slurm-dws.key 2048'
master 'openssl req -new -key slurm-dws.key -out slurm-dws.csr -subj /CN=slurm-dws'
master "openssl x509 -req -in slurm-dws.csr -CA $pki/ca.crt -CAkey $pki/ca.key -CAcreateserial -out slurm-dws.crt -days 500"
server=$(master "kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}'")
master "kubectl config --kubeconfig $k set-cluster kubernetes --server $server --certificate-authority $pki/ca.crt --embed-certs"
master "kubectl config --kubeconfig $k set-credentials slurm-dws --client-certificate slurm-dws.crt --client-key slurm-dws.key --embed-certs"
master "kubectl config --kubeconfig $k set-context slurm-dws --cluster kubernetes --user slurm-dws"
master "kubectl config --kubeconfig $k use-context slurm-dws"
master 'kubectl apply -f dws/config/rbac/workload_manager_role.yaml'
master 'kubectl create clusterrolebinding slurm-dws-viewer --clusterrole=workload-manager --user=slurm-dws'
master "KUBECONFIG=$k kubectl get workflows.dataworkflowservices.github.io -A"

# the Slurm side
for controller in "$@"; do
    slurm() { ssh -F "$config" "$controller" "$@"; }
    slurm 'git clone -q https://github.com/DataWorkflowServices/dws-slurm-bb-plugin.git'
    slurm 'cd dws-slurm-bb-plugin && git -c advice.detachedHead=false checkout -q v0.0.5'
    slurm 'cp dws-slurm-bb-plugin/src/burst_buffer/burst_buffer.lua /etc/slurm/'
    slurm 'cp dws-slurm-bb-plugin/src/burst_buffer/burst_buffer.conf /etc/slurm/'
    # what the procedure leaves out and Slurm 24.11 ends without
    slurm 'printf "function slurm_bb_test_data_in() return slurm.SUCCESS, \"\" end\nfunction slurm_bb_test_data_out() return slurm.SUCCESS, \"\" end\n" >>/etc/slurm/burst_buffer.lua'
    master "cat $k" | slurm "umask 077; cat >/etc/slurm/$k"
    slurm "chown slurm: /etc/slurm/$k"
    slurm 'echo BurstBufferType=burst_buffer/lua >>/etc/slurm/slurm.conf'
done
for controller in "$@"; do ssh -F "$config" "$controller" 'systemctl restart slurmctld'; done
until ssh -F "$config" "$first" 'scontrol ping' | grep -q 'slurmctl1.*UP'; do sleep 0.2; done

# the test job
slurm() { ssh -F "$config" "$first" "$@"; }
job=$(slurm "cd /tmp && printf '#!/bin/sh\n#DW\ntrue\n' | runuser -u $user -- sbatch --parsable -o /dev/null -p $partition")
slurm "kubectl --kubeconfig /etc/slurm/$k get workflows.dataworkflowservices.github.io -A"
slurm "scontrol show bbstat workflow $job"
installed=$(now)
until [ "$(slurm "scontrol -o show job $job" | tr ' ' '\n' | sed -n 's/^JobState=//p')" = COMPLETED ]; do sleep 0.2; done
slurm "kubectl --kubeconfig /etc/slurm/$k get workflows.dataworkflowservices.github.io -A"
ended=$(now)

echo "$began $installed $ended $waited" | awk '{
    printf "by hand: %.1f s to the completed job, %.1f s to its submission; waits for pods %.1f s, own share %.1f s\n",
        $3 - $1, $2 - $1, $4, $3 - $1 - $4}'
