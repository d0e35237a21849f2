"""What the plugin may do in the cluster, and the kubeconfig with which it proves who it is."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fabfile import names, pki
from fabfile.stages import manifests
from fabfile.step import Action, Api, Apply, Ask, Check, Delete, Finding, Place, Put, Sh, Shell, Stage, Step, Value

RBAC = "/apis/rbac.authorization.k8s.io/v1"


# --- role and binding


def _look_role(place: Place) -> Api:
    return Api(lambda cluster: _rules(cluster.get(f"{RBAC}/clusterroles/{names.role(place.site)}")))


def _rules(role: Mapping[str, Any] | None) -> Value:
    return {"rules": role["rules"]} if role else None


def _want_role(place: Place) -> Value:
    made = manifests.role(place)
    if made:
        return {"rules": made["rules"]}
    # deployed with the rest from 0.1.1 on: the stage deploy sees to what it says
    return place.facts.one("access.role")


def _change_role(place: Place, have: Value, want: Value) -> Sequence[Action]:
    made = manifests.role(place)
    assert made is not None
    return [Apply(made)]


def _look_binding(place: Place) -> Api:
    return Api(lambda cluster: _bound(cluster.get(f"{RBAC}/clusterrolebindings/{names.BINDING}")))


def _bound(binding: Mapping[str, Any] | None) -> Value:
    if binding is None:
        return None
    return {
        "role": binding["roleRef"]["name"],
        "subjects": sorted(f"{s['kind']} {s['name']}" for s in binding.get("subjects", [])),
    }


def _want_binding(place: Place) -> Value:
    return {"role": names.role(place.site), "subjects": [f"User {place.site.access.common_name}"]}


def _change_binding(place: Place, have: Value, want: Value) -> Sequence[Action]:
    group = "rbac.authorization.k8s.io"
    binding = Apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": names.BINDING},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": want["role"]},
            "subjects": [{"apiGroup": group, "kind": "User", "name": place.site.access.common_name}],
        }
    )
    if have is None:
        return [binding]
    # a binding's role can't be changed, and a list of subjects is better made anew than merged
    return [Delete(f"{RBAC}/clusterrolebindings/{names.BINDING}"), binding]


# --- the cluster's CA and address


def _look_cluster(place: Place) -> Shell:
    context = f"--context={shlex.quote(place.site.master.context)} " if place.site.master.context else ""
    script = f"""
kubectl config view --minify --raw {context}--output \
    jsonpath='{{.clusters[0].name}} {{.clusters[0].cluster.server}} {{.clusters[0].cluster.certificate-authority-data}}'
echo
cat {shlex.quote(place.site.master.pki)}/ca.crt
"""
    return Shell(script, _parse_cluster)


def _parse_cluster(out: bytes) -> Value:
    first, _, ca = out.decode().partition("\n")
    name, server, data = (first.split(" ") + ["", "", ""])[:3]
    return {"name": name, "server": server, "trusts": base64.b64decode(data).decode() or ca, "ca": ca}


def _judge_cluster(place: Place, have: Value) -> Sequence[Finding]:
    if have["server"].startswith("https://") and "BEGIN CERTIFICATE" in have["ca"]:
        return ()
    text = f"{place.site.master.kubeconfig} names no https server, or {place.site.master.pki}/ca.crt is no certificate"
    return (Finding("cluster-unclear", text, "set master.kubeconfig, master.context and master.pki"),)


def server(place: Place) -> str:
    """The API server's URL as the controllers use it. Raises Unknown before the admin's context was read."""
    return place.site.access.server or str(place.facts.one("access.cluster")["server"])


def reaches(place: Place) -> bool:
    """Whether this controller's kubeconfig, as it lies there, reached the API server that is wanted."""
    found = place.facts.found.get("access.kubeconfig", {}).get(place.host, {})
    return found.get("server") == server(place) and _rights(found.get("may", [])) == _RIGHTS


# --- the kubeconfig

# The key never leaves the host: of the file only what is public is printed. kubectl, run as SlurmUser, proves the rest;
# its cache is a folder in memory that goes away with it.
_LOOK_KUBECONFIG = """
file={kubeconfig}
{slurm_user}
printf 'slurm_user=%s\\n' "$user"
[ -e "$file" ] || exit 0
stat -L -c 'mode=%a
owner=%U' "$file"
for key in client-certificate-data certificate-authority-data server namespace current-context; do
    sed -n "s/^[- ]*$key: *\\"*\\([^\\"]*\\)\\"*$/$key=\\1/p" "$file" | head -n 1
done
cache=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX)
trap 'rm -rf "$cache"' EXIT
chown "$user" "$cache"
list() {{ timeout 20 "$@" env HOME="$cache" kubectl --kubeconfig "$file" --cache-dir "$cache" auth can-i --list --no-headers; }}
if [ "$user" = root ]; then list 2>&1; else list setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups 2>&1; fi |
    sed -n '/^Warning/d; s/^/may=/p'
"""

# SlurmUser is root unless slurm.conf says otherwise (slurm.conf(5)); the last line that says so counts
SLURM_USER = """
user=$(cat {folder}/*.conf 2>/dev/null | sed -n 's/^[[:space:]]*[Ss][Ll][Uu][Rr][Mm][Uu][Ss][Ee][Rr][[:space:]]*=[[:space:]]*\\([^#[:space:]]*\\).*/\\1/p' | tail -n 1)
user=${{user:-root}}
user=${{user%%(*}}
"""


def slurm_user(place: Place) -> str:
    """Shell lines that set $user to SlurmUser as this controller's slurm.conf has it."""
    return SLURM_USER.format(folder=shlex.quote(place.site.slurm.folder))


def _look_kubeconfig(place: Place) -> Shell:
    script = _LOOK_KUBECONFIG.format(kubeconfig=names.KUBECONFIG, slurm_user=slurm_user(place))
    return Shell(script, _parse_kubeconfig)


def _parse_kubeconfig(out: bytes) -> Value:
    pairs = [line.partition("=")[::2] for line in out.decode(errors="replace").splitlines()]
    return dict(pairs) | {"may": [text for key, text in pairs if key == "may"]}


def _read_kubeconfig(place: Place, found: Value) -> Value:
    """What was found, in the words of what is wanted."""
    if "mode" not in found:
        return None
    cluster = place.facts.one("access.cluster")
    return {
        "certificate": _judged(_decoded(found.get("client-certificate-data", "")), cluster["ca"].encode(), place),
        "server": found.get("server", ""),
        "trusts": "the cluster's CA"
        if _decoded(found.get("certificate-authority-data", "")) == cluster["trusts"].encode()
        else "another CA",
        "namespace": found.get("namespace", "default"),
        "context": found.get("current-context", ""),
        "mode": found["mode"],
        "owner": "SlurmUser" if found["owner"] == found["slurm_user"] else found["owner"],
        "SlurmUser": _rights(found["may"]),
    }


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _judged(pem: bytes, ca: bytes, place: Place) -> str:
    access = place.site.access
    try:
        found = pki.read(pem)
    except ValueError:
        return "none"
    if found.common_name != access.common_name:
        return f"for {found.common_name}"
    if not pki.signed_by(pem, ca):
        return "not of this cluster's CA"
    return _FITS if found.days_left > access.renew_below else f"only {found.days_left} days left"


_FITS = "of this cluster's CA, long enough"
_RIGHTS = "may work on Workflows, and may not read Secrets"


def _rights(table: Sequence[str]) -> str:
    """`kubectl auth can-i --list` in a sentence: resource first, verbs in the last brackets."""
    verbs = {
        row.split()[0]: set(row.rpartition("[")[2].rstrip("] ").split()) for row in table if row.rstrip().endswith("]")
    }
    if not verbs:
        return "is refused: " + (table[-1][:200] if table else "kubectl said nothing")
    lacking = {"create", "get", "patch", "delete"} - verbs.get(names.WORKFLOWS, set())
    if lacking:
        return f"may not {', '.join(sorted(lacking))} Workflows"
    return "may read Secrets" if {"secrets", "*.*", "*"} & set(verbs) else _RIGHTS


def _want_kubeconfig(place: Place) -> Value:
    return {
        "certificate": _FITS,
        "server": server(place),
        "trusts": "the cluster's CA",
        "namespace": place.site.access.namespace,
        "context": place.site.access.common_name,
        "mode": "600",
        "owner": "SlurmUser",
        "SlurmUser": _RIGHTS,
    }


def _change_kubeconfig(place: Place, have: Value, want: Value) -> Sequence[Action]:
    """A new key and certificate; a key whose file can't be trusted any more isn't worth keeping."""
    if have is not None and _only_file(have, want):
        return [
            Sh(f"chown and chmod {names.KUBECONFIG}", _OWN.format(slurm_user=slurm_user(place), file=names.KUBECONFIG))
        ]
    asked = pki.request(place.site.access.common_name)
    cluster = place.facts.one("access.cluster")

    def then(certificate: bytes) -> Sequence[Action]:
        content = pki.kubeconfig(
            cluster["name"],
            want["server"],
            cluster["trusts"].encode(),
            place.site.access.common_name,
            want["namespace"],
            certificate,
            asked.key,
        )
        owner = place.facts.all("access.kubeconfig")[place.host]["slurm_user"]
        return [Put(names.KUBECONFIG, content, 0o600, f"{owner}:")]

    title = (
        f"sign a certificate for {place.site.access.common_name}, {place.site.access.days} days, with the cluster's CA"
    )
    return [Ask(title, "master", _sign(place, asked.csr), then)]


def _only_file(have: Value, want: Value) -> bool:
    return {key for key in want if have[key] != want[key]} <= {"mode", "owner", "SlurmUser"} and "refused" not in have[
        "SlurmUser"
    ]


_OWN = """
{slurm_user}
chown "$user:$(id -g "$user")" {file}
chmod 600 {file}
"""


def _sign(place: Place, csr: bytes) -> str:
    """Signs on the master: the CA's key never leaves it. Nothing in here is secret, and no serial file is left."""
    pki_folder = shlex.quote(place.site.master.pki)
    return f"""
extensions() {{ printf 'basicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature,keyEncipherment\\nextendedKeyUsage=clientAuth\\n'; }}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
extensions >"$folder/extensions"
openssl x509 -req -sha256 -days {place.site.access.days} -set_serial {pki.serial()} -extfile "$folder/extensions" \
    -CA {pki_folder}/ca.crt -CAkey {pki_folder}/ca.key 2>"$folder/said" <<'CSR' || {{ cat "$folder/said" >&2; exit 1; }}
{csr.decode().strip()}
CSR
"""


STAGE = Stage(
    "access",
    ("workarea",),
    (
        Check("cluster", "master", _look_cluster, _judge_cluster),
        Step("role", "master", _look_role, _want_role, _change_role),
        Step("binding", "master", _look_binding, _want_binding, _change_binding),
        Step(
            "kubeconfig",
            "controller",
            _look_kubeconfig,
            _want_kubeconfig,
            _change_kubeconfig,
            read=_read_kubeconfig,
            settle=lambda site: 10.0,
            hint="the plugin reaches the API with this file only: see `kubectl auth can-i --list` as SlurmUser on that controller",
        ),
    ),
)
