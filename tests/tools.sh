#!/bin/sh
# What the tests call, installed where it is missing. No service is started by that: the tests start their own.
set -eu
missing=
for pair in sshd=openssh-server ssh=openssh-client sudo=sudo openssl=openssl lua5.4=lua5.4 git=git make=make curl=curl unshare=util-linux \
    setpriv=util-linux nsenter=util-linux ps=procps jq=jq ip=iproute2 bash=bash strace=strace setfacl=acl \
    update-ca-certificates=ca-certificates zsh=zsh tcsh=tcsh bsd-csh=csh fish=fish ksh93=ksh93u+m mksh=mksh tmux=tmux \
    script=bsdutils google-authenticator=libpam-google-authenticator krb5kdc=krb5-kdc kadmin.local=krb5-admin-server \
    kinit=krb5-user softhsm2-util=softhsm2; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "these packages are missing: apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing"
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null
