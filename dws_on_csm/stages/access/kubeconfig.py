"""The kubeconfig with which the plugin logs in to the cluster, on each controller: read, judged, tried and replaced."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

from dws_on_csm.domain import certificates, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, Put, RunScript
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Check, Fact, Finding, Refused, ShellLook, Step, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.access import signing
from dws_on_csm.stages.facts import API_SERVER, AUTHORITY, KUBECONFIG, Kubeconfig, KubeconfigCertificate
from dws_on_csm.stages.pod import discover, files, service_account, templates
from dws_on_csm.stages.slurm import slurm_user


def server(ctx: StepContext) -> str:
    """The API server's URL as this controller uses it. Raises NotYetKnown before the admin's context was read."""
    if ctx.site.access.server:
        return ctx.site.access.server
    of_admin = ctx.facts.one(API_SERVER)["server"]
    if not service_account.chosen(ctx):
        return of_admin
    file = ctx.facts.on(KUBECONFIG, ctx.host)
    known = names.API_SERVICE if file.get("service") else of_admin
    # a name server that is silent for a moment must not change a kubeconfig that works
    works = service_account.in_file(file) and not slurm_user.permissions(file["may"]).refused
    return file["server"] if works and file.get("server") in (names.API_SERVICE, of_admin) else known


def reaches(ctx: StepContext) -> bool:
    """Whether this controller's present kubeconfig reached the wanted API server."""
    have, wanted_server = ctx.facts.known(KUBECONFIG).get(ctx.host), server(ctx)
    if have is None or have.get("server") != wanted_server:
        return False
    return rights_text(ctx, have) == rights_text(ctx)


def rights_text(ctx: StepContext, file: Kubeconfig | None = None) -> str:
    """What SlurmUser may do with the kubeconfig, in words; of None, what they should. A ServiceAccount may have other rights too,
    which somebody else gave it."""
    present = slurm_user.permissions(file["may"]) if file else slurm_user.NEEDED
    if (service_account.in_file(file) if file else service_account.chosen(ctx)) and not present.refused:
        return slurm_user.permissions_text(present) if present.lacking else "may work on Workflows"
    return slurm_user.permissions_text(present)


# The key never leaves the host: of the file only what is public is printed, and whether its key is the certificate's. kubectl, run
# as SlurmUser, proves the rest.
LOOK_KUBECONFIG = """
file={kubeconfig}
fact slurm_user "$slurm_name"
fact slurm_uid "$slurm_uid"
[ -z "$slurm_uid" ] || fact slurm_group "$(find_account "$slurm_uid" && echo "$as_group")"
[ -z "$slurm_why" ] || fact slurm_why "$slurm_why"
if [ -e {token} ]; then
    reader=$slurm_uid
    [ "$reader" != 0 ] || reader=root
    if [ -n "$reader" ] && as "$reader" cat -- {token} >/dev/null 2>&1; then fact token readable; else fact token unreadable; fi
    ! timeout -k 1 5 getent hosts {service} >/dev/null 2>&1 || fact service yes
fi
[ -e "$file" ] || exit 0
stat_file 'mode=%a
owner=%U
owner_uid=%u' "$file" || exit 1
text=$(read_file "$file") || exit 1
values=$(printf '%s\\n' "$text" | tr -d '\\r' | sed -n 's/^[- ]*\\([A-Za-z-]*\\): *"*\\([^"]*\\)"*$/\\1=\\2/p')
has_value() {{ case $newline$values in *"$newline$1="*) ;; *) false ;; esac }}
value() {{
    has_value "$1" || return 0
    value_=$newline$values
    value_=${{value_#*"$newline$1="}}
    printf '%s\\n' "${{value_%%"$newline"*}}"
}}
for key in client-certificate-data certificate-authority-data certificate-authority server namespace current-context tokenFile \\
    proxy-url
do
    ! has_value "$key" || printf '%s=%s\\n' "$key" "$(value "$key")"
done
fact key_fits "$(key_fits "$(value client-certificate-data)" "$(value client-key-data)")"
{can_i}
can_i --list --no-headers 2>&1 | sed -n '/^Warning/d; s/^/may=/p'
"""


def look(ctx: StepContext, can_i: str = "") -> ShellLook:
    """A look at the file, and at what kubectl may do with it as SlurmUser. `can_i`: a shell function in place of that call."""
    can_i = can_i or slurm_user.can_i()
    script = LOOK_KUBECONFIG.format(
        kubeconfig=names.KUBECONFIG,
        can_i=can_i,
        token=names.ACCOUNT_TOKEN,
        service=names.API_SERVICE.removeprefix("https://"),
    )
    return KUBECONFIG.shell(render.script("lib/key_fits.sh") + script, _parse, controller_library.text(ctx))


def _parse(out: bytes) -> Kubeconfig:
    pairs = parse_pairs(out, "replace")
    single = first_values(pairs)
    int(single.get("mode", "0"), 8)  # ValueError: no mode
    scheme, _, rest = single.pop("proxy-url", "").partition("://")
    single["proxy"] = (
        f"{scheme}://{rest.rpartition('@')[2]}" if rest else scheme
    )  # without a login, which may have a password
    values: dict[str, object] = {**single, "slurm_user": single["slurm_user"]}  # KeyError: the answer begins with it
    return cast(Kubeconfig, values | {"may": all_values(pairs, "may")})


def read(ctx: StepContext, file: Kubeconfig) -> Value:
    """The look's result in the terms of `wanted`; None without a file."""
    if "mode" not in file:
        return None
    if service_account.in_file(file):
        return {
            "logs in with": _account_text(ctx),
            "server": file.get("server", ""),
            "trusts": POD_CA if file.get("certificate-authority") == names.ACCOUNT_CA else "another CA",
            "namespace": file.get("namespace", "default"),
            "context": file.get("current-context", ""),
            "SlurmUser": rights_text(ctx, file),
        }
    cluster = ctx.facts.one(API_SERVER)
    state = {
        "certificate": _judged(file, cluster["ca"].encode(), ctx),
        "valid": _valid(ctx, file),
        "server": file.get("server", ""),
        "trusts": trust(ctx, file),
        "namespace": file.get("namespace", "default"),
        "context": file.get("current-context", ""),
        "mode": file["mode"],
        "owner": "SlurmUser" if is_slurm_users(file) else file["owner"],
        "SlurmUser": slurm_user.permissions_text(slurm_user.permissions(file["may"])),
    }
    return discover.without_mode_in_pod(ctx, state)


POD_CA = "the CA in the pod"


def _account_text(ctx: StepContext) -> str:
    return f"the token of ServiceAccount {service_account.account(ctx)}"


def is_slurm_users(file: Kubeconfig) -> bool:
    """Whether SlurmUser owns the file, by number: a user may have several names. False where SlurmUser is unknown."""
    return bool(file.get("slurm_uid")) and file["slurm_uid"] == file.get("owner_uid")


def certificate(file: KubeconfigCertificate) -> bytes:
    """The certificate (PEM) in the look's result; b"" if there is none."""
    return _decoded(file.get("client-certificate-data", ""))


def proven_name(ctx: StepContext, file: KubeconfigCertificate) -> str:
    """The common name of its certificate, if the cluster's CA signed that, and the key beside it is its; else "".

    The file is SlurmUser's, who could write a certificate of their own there, with the name of another Slurm, or that of another
    Slurm, which is public.
    """
    if not has_its_key(file):
        return ""
    pem = certificate(file)
    name = certificates.common_name(pem)
    authorities = [seen["ca"].encode() for fact in (API_SERVER, AUTHORITY) for seen in ctx.facts.known(fact).values()]
    if not name or not certificates.of_a_client(pem):
        return ""
    return name if any(certificates.signed_by(pem, ca) for ca in authorities if b"-----BEGIN" in ca) else ""


def has_its_key(file: KubeconfigCertificate) -> bool:
    """Whether the key in the file is the certificate's; True where that is unknown, without openssl on the host."""
    return file.get("key_fits", "") != "no"


OF_CLUSTER, OF_OTHER = "the cluster's CA", "another CA"
TOO_FEW, TOO_MANY = "not all certificates of the cluster's CA", "another CA besides the cluster's"


def trust(ctx: StepContext, file: Kubeconfig) -> str:
    """Which CA's certificates it trusts; OF_CLUSTER where those were not read. While a CA is being renewed it has two certificates,
    and a kubeconfig with one of them still works."""
    have = set(certificates.bundle(_decoded(file.get("certificate-authority-data", ""))))
    if service_account.in_file(file):
        return OF_CLUSTER if file.get("certificate-authority") == names.ACCOUNT_CA else OF_OTHER
    for server in ctx.facts.known(API_SERVER).values():
        want = set(certificates.bundle(server["trusts"].encode()))
        if have != want:
            return OF_OTHER if not have & want else TOO_MANY if have - want else TOO_FEW
    return OF_CLUSTER


def _valid(ctx: StepContext, file: Kubeconfig) -> Value:
    """The end of its certificate, or of the CA that signed it where that is earlier; None if it has none."""
    cluster = ctx.facts.one_or_none(API_SERVER)
    try:
        seen = certificates.within_ca(certificate(file), cluster["ca"].encode() if cluster else b"")
    except ValueError:
        return None
    return {"until": f"{seen.until:%Y-%m-%d}", "days left": seen.days_left}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _judged(file: Kubeconfig, ca: bytes, ctx: StepContext) -> str:
    pem = certificate(file)
    try:
        parsed = certificates.read(pem)
    except ValueError:
        return "none"
    if parsed.common_name != ctx.site.access.common_name:
        return f"for {parsed.common_name}"
    if not has_its_key(file):
        return "without its key"
    return FITS if certificates.signed_by(pem, ca) else "not of this cluster's CA"


FITS = "of this cluster's CA"


def wanted(ctx: StepContext) -> Value:
    """The wanted state of the kubeconfig; its certificate may be any that is valid long enough."""
    if service_account.chosen(ctx):
        return {
            "logs in with": _account_text(ctx),
            "server": server(ctx),
            "trusts": POD_CA,
            "namespace": ctx.site.access.namespace,
            "context": ctx.site.access.common_name,
            "SlurmUser": rights_text(ctx),
        }
    seen = ctx.facts.known(KUBECONFIG).get(ctx.host)
    valid, least = seen and _valid(ctx, seen), ctx.site.access.renew_below
    state = {
        "certificate": FITS,
        "valid": valid if valid and valid["days left"] > least else {"days left": f"more than {least}"},
        "server": server(ctx),
        "trusts": OF_CLUSTER,
        "namespace": ctx.site.access.namespace,
        "context": ctx.site.access.common_name,
        "mode": "600",
        "owner": "SlurmUser",
        "SlurmUser": slurm_user.permissions_text(slurm_user.NEEDED),
    }
    return discover.without_mode_in_pod(ctx, state)


def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The actions for a new key and certificate, or for a kubeconfig that names the pod's token.

    Also where only the owner or the mode is wrong: another user may have read the key, or may have moved another file of root's
    there, which SlurmUser must not get.
    """
    if service_account.chosen(ctx):
        return _naming_the_token(ctx, have, want)
    owner = "" if discover.pod_of(ctx) else slurm_user.owner(ctx)
    request = cache(lambda: certificates.request(ctx.site.access.common_name))  # made when it is sent, not in a plan
    works = _works(ctx)

    def then(certificate: bytes) -> Sequence[Action]:
        _refuse_short(ctx, certificate)
        content = _content(ctx, want, certificate, request().key)
        if discover.pod_of(ctx):
            return files.kubeconfig(ctx, content)
        return [Put(names.KUBECONFIG, content, 0o600, owner, check=slurm_user.try_script(ctx) if works else "")]

    return [signing.action(ctx, lambda: request().csr, then)]


def _works(ctx: StepContext) -> bool:
    """Whether SlurmUser can use the present kubeconfig: then another one has to work before it replaces that."""
    file = ctx.facts.known(KUBECONFIG).get(ctx.host)
    if not file or "mode" not in file:
        return False
    may = slurm_user.permissions(file["may"])
    return not may.refused and not may.lacking


def token_text(ctx: StepContext) -> str:
    """The kubeconfig that names the pod's token."""
    cluster, access = ctx.facts.one(API_SERVER)["name"], ctx.site.access
    return certificates.token_kubeconfig(
        cluster, server(ctx), names.ACCOUNT_CA, access.common_name, access.namespace, names.ACCOUNT_TOKEN
    )


def _naming_the_token(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The actions for a kubeconfig of the pod's ServiceAccount. A Secret with a key, which may hide it, is removed when it is
    there and was tried."""
    text = token_text(ctx)
    tried = _TRY_TEXT.format(check=slurm_user.try_script(ctx))
    trial = [RunScript("try the new kubeconfig as SlurmUser", tried, 60.0, text.encode())] if _works(ctx) else []
    by_certificate = have is not None and "certificate" in have
    hides = by_certificate or discover.state(ctx)["secret"]["mounted"]
    return [*trial, *files.config(ctx, {discover.FILE: text}), *(files.no_kubeconfig(ctx) if hides else ())]


# It holds no secret. In a folder that others can write, nobody else can change a file of root's.
_TRY_TEXT = """
file=$(mktemp /dev/shm/dws-on-csm.XXXXXX) && [ -n "$file" ] || exit 1
cat >"$file"
chmod 644 -- "$file"
code=0
({check}) || code=$?
rm -f -- "$file"
exit "$code"
"""


def _content(ctx: StepContext, want: Value, certificate: bytes, key: Secret) -> Secret:
    cluster, user = ctx.facts.one(API_SERVER), ctx.site.access.common_name
    trusts, space = cluster["trusts"].encode(), want["namespace"]
    return certificates.kubeconfig(cluster["name"], want["server"], trusts, user, space, certificate, key)


def _refuse_short(ctx: StepContext, certificate: bytes) -> None:
    """Refuse a certificate that the next run would have to renew again."""
    left, least = certificates.read(certificate).days_left, ctx.site.access.renew_below
    if left <= least:
        text = f"the new certificate is valid for {left} days, but one with {least} days or less is renewed (access.renew_below)"
        fix = "raise --cluster-signing-duration of kube-controller-manager, lower access.renew_below, or set access.via: ca"
        if ctx.site.access.signer == "ca":
            fix = signing.RENEW_CA
        raise Refused(Finding("certificate-short", text, fix))


WARN = 60
"""From this many days before its end, every run says how long a certificate is still valid."""


def near_its_end(have: Value) -> str:
    """A warning if the certificate ends soon, else ""."""
    valid = (have or {}).get("valid") or {"days left": WARN}
    if valid["days left"] >= WARN:
        return ""
    return f"{valid['days left']} days left until {valid['until']}: `invoke certs.rotate`"


def _in_templates(ctx: StepContext) -> Mapping[str, str | None]:
    """The kubeconfig among the templates of a generated slurm.conf: it is there where it names the pod's token."""
    return {discover.FILE: token_text(ctx) if service_account.chosen(ctx) else None}


TEMPLATES_STEP = templates.step(Fact("access", "templates"), _in_templates, files.config)
"""The templates of a generated slurm.conf, and what their Job has made of them, have the kubeconfig."""

STEP = Step(
    "kubeconfig",
    "controller",
    look,
    wanted,
    change,
    read=read,
    settle_seconds=discover.settle_seconds(10.0),
    status_text=near_its_end,
    hint="the plugin uses only this file for the API: run `kubectl auth can-i --list` as SlurmUser on that controller",
)
"""The step of an install."""

NAME = Check("kubeconfig", "controller", lambda ctx: look(ctx, "can_i() { :; }"), lambda ctx, have: ())
"""Reads the common name of the kubeconfig, without a call of the API."""
