"""The kubeconfig with which the plugin logs in to the cluster, on each controller: read, judged, tried and replaced."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import cast

from dws_on_csm.domain import certificates, names
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, Put
from dws_on_csm.model.lines import all_values, first_values, parse_pairs
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Check, Fact, Finding, Refused, ShellLook, Step, StepContext, Value
from dws_on_csm.stages.access import signing
from dws_on_csm.stages.facts import API_SERVER, AUTHORITY, KUBECONFIG, Certified, Kubeconfig
from dws_on_csm.stages.pod import discover, files
from dws_on_csm.stages.slurm import slurm_user


def server(ctx: StepContext) -> str:
    """The API server's URL as the controllers use it. Raises NotYetKnown before the admin's context was read."""
    return ctx.site.access.server or ctx.facts.one(API_SERVER)["server"]


def reaches(ctx: StepContext) -> bool:
    """Whether this controller's present kubeconfig reached the wanted API server."""
    have, wanted_server = ctx.facts.known(KUBECONFIG).get(ctx.host), server(ctx)
    if have is None or have.get("server") != wanted_server:
        return False
    return slurm_user.permissions(have["may"]) == slurm_user.NEEDED


# The key never leaves the host: of the file only what is public is printed, and whether its key is the certificate's. kubectl, run
# as SlurmUser, proves the rest.
_LOOK_KUBECONFIG = """
file={kubeconfig}
{slurm_user}
fact slurm_user "$slurm_name"
fact slurm_uid "$slurm_uid"
[ -z "$slurm_uid" ] || fact slurm_group "$(find_account "$slurm_uid" && echo "$as_group")"
[ -z "$slurm_why" ] || fact slurm_why "$slurm_why"
[ -e "$file" ] || exit 0
stat_file 'mode=%a
owner=%U
owner_uid=%u' "$file" || exit 1
text=$(read_file "$file") || exit 1
value() {{ printf '%s\\n' "$text" | sed -n "s/^[- ]*$1: *\\"*\\([^\\"]*\\)\\"*$/\\1/p" | head -n 1; }}
for key in client-certificate-data certificate-authority-data server namespace current-context; do
    value "$key" | sed "s/^/$key=/"
done
fact key_fits "$(key_fits "$(value client-certificate-data)" "$(value client-key-data)")"
{can_i}
can_i --list --no-headers 2>&1 | sed -n '/^Warning/d; s/^/may=/p'
"""


def look(ctx: StepContext, can_i: str = "") -> ShellLook:
    """A look at the file, and at what kubectl may do with it as SlurmUser. `can_i`: a shell function in place of that call."""
    can_i = can_i or slurm_user.can_i()
    script = _LOOK_KUBECONFIG.format(kubeconfig=names.KUBECONFIG, slurm_user=slurm_user.shell(ctx), can_i=can_i)
    return KUBECONFIG.shell(render.script("lib/safe_file.sh", "lib/key_fits.sh") + script, _parse)


def _parse(out: bytes) -> Kubeconfig:
    pairs = parse_pairs(out, "replace")
    single = first_values(pairs)
    int(single.get("mode", "0"), 8)  # ValueError: no mode
    values: dict[str, object] = {**single, "slurm_user": single["slurm_user"]}  # KeyError: the answer begins with it
    return cast(Kubeconfig, values | {"may": all_values(pairs, "may")})


def read(ctx: StepContext, file: Kubeconfig) -> Value:
    """The look's result in the terms of `wanted`; None without a file."""
    if "mode" not in file:
        return None
    cluster = ctx.facts.one(API_SERVER)
    state = {
        "certificate": _judged(file, cluster["ca"].encode(), ctx),
        "valid": _valid(ctx, file),
        "server": file.get("server", ""),
        "trusts": "the cluster's CA" if trusted(ctx, file) else "another CA",
        "namespace": file.get("namespace", "default"),
        "context": file.get("current-context", ""),
        "mode": file["mode"],
        "owner": "SlurmUser" if _slurm_users(file) else file["owner"],
        "SlurmUser": slurm_user.permissions_text(slurm_user.permissions(file["may"])),
    }
    return discover.without_mode_in_pod(ctx, state)


def _slurm_users(file: Kubeconfig) -> bool:
    """Whether SlurmUser owns the file, by number: a user may have several names. False where SlurmUser is unknown."""
    return bool(file.get("slurm_uid")) and file["slurm_uid"] == file.get("owner_uid")


def certificate(file: Certified) -> bytes:
    """The certificate (PEM) in the look's result; b"" if there is none."""
    return _decoded(file.get("client-certificate-data", ""))


def proven_name(ctx: StepContext, file: Certified) -> str:
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


def has_its_key(file: Certified) -> bool:
    """Whether the key in the file is the certificate's; True where that is unknown, without openssl on the host."""
    return file.get("key_fits", "") != "no"


def trusted(ctx: StepContext, file: Kubeconfig) -> bool:
    """Whether it trusts the certificates of the cluster's CA, and no others; True where those were not read."""
    trusts = set(certificates.bundle(_decoded(file.get("certificate-authority-data", ""))))
    seen = ctx.facts.known(API_SERVER).values()
    return all(trusts == set(certificates.bundle(server["trusts"].encode())) for server in seen)


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
    seen = ctx.facts.known(KUBECONFIG).get(ctx.host)
    valid, least = seen and _valid(ctx, seen), ctx.site.access.renew_below
    state = {
        "certificate": FITS,
        "valid": valid if valid and valid["days left"] > least else {"days left": f"more than {least}"},
        "server": server(ctx),
        "trusts": "the cluster's CA",
        "namespace": ctx.site.access.namespace,
        "context": ctx.site.access.common_name,
        "mode": "600",
        "owner": "SlurmUser",
        "SlurmUser": slurm_user.permissions_text(slurm_user.NEEDED),
    }
    return discover.without_mode_in_pod(ctx, state)


def change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    """The actions for a new key and certificate.

    Also where only the owner or the mode is wrong: another user may have read the key, or may have moved another file of root's
    there, which SlurmUser must not get.
    """
    owner = "" if discover.pod_of(ctx) else slurm_user.owner(ctx)
    request = cache(lambda: certificates.request(ctx.site.access.common_name))  # made when it is sent, not in a plan
    works = have is not None and have["SlurmUser"] == want["SlurmUser"]

    def then(certificate: bytes) -> Sequence[Action]:
        _refuse_short(ctx, certificate)
        content = _content(ctx, want, certificate, request().key)
        if discover.pod_of(ctx):
            return files.kubeconfig(ctx, content)
        return [Put(names.KUBECONFIG, content, 0o600, owner, check=slurm_user.try_script(ctx) if works else "")]

    return [signing.action(ctx, lambda: request().csr, then)]


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
        if ctx.site.access.via == "ca":
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
NAMED: Fact[Kubeconfig] = Fact("preflight", "kubeconfig")
"""What NAME reads in a stage `preflight`."""
