"""What has to answer before anything is touched: the registry to the master, and the API server to the controllers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.step import Check, Finding, NotYetKnown, ShellLook, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.dws.cert_manager_overlay import CLUSTER

# --- the registry

_REGISTRY = """
if ! login=$(credential curl 2>&1); then printf 'secret %s\\n' "$(printf '%s' "$login" | tail -n 1)"; exit 0; fi
code=$(ask /v2/ --output /dev/null --write-out 'code %{http_code}' 2>&1) || true
printf '%s\\n' "$code" | tail -n 2
"""


def _look_registry(ctx: StepContext) -> ShellLook:
    script = render.script("master/registry.sh", **images.registry_settings(ctx.site)) + _REGISTRY
    return ShellLook(script, lambda out: out.decode().strip())


def _judge_registry(ctx: StepContext, have: Value) -> Sequence[Finding]:
    registry = ctx.site.registry
    secret = f"{registry.secret_namespace}/{registry.secret_name}"
    if have.startswith("secret "):
        _needs_the_api(ctx)
        return (Finding("registry-secret", f"no credential in {secret}: {have[7:]}", "correct registry.secret"),)
    code = have.rpartition("code ")[2]
    if code == "200":
        return ()
    if code in ("401", "403"):
        fix = f"was the password changed in Nexus? Then set it in the Secret {secret} too"
        return (
            Finding("registry-credential", f"{registry.name} refuses the credential of {secret} (HTTP {code})", fix),
        )
    said = have.split("\n")[0].removesuffix(f"code {code}").strip() or f"HTTP {code}"
    fix = f"see `curl -v https://{registry.name}/v2/` on {ctx.host}"
    return (Finding("registry-unreachable", f"{registry.name} does not answer as a registry: {said}", fix),)


def _needs_the_api(ctx: StepContext) -> None:
    """Raises Unknown where the master itself doesn't reach the API server: that is told once, by the check `cluster`."""
    if not ctx.facts.known(CLUSTER):
        raise NotYetKnown("preflight")


# --- the API server, as a controller reaches it

# curl's exit code says whether the address answers with a certificate that names it and is of this CA; whatever the API
# server answers then is good. Without curl nothing is known, and the kubeconfig's own step says it later.
_REACH = """
command -v curl >/dev/null || exit 0
if said=$(printf '%s' {ca} | curl --silent --show-error --max-time 10 --proto =https \
    --cacert /dev/stdin --output /dev/null --url {server}/version 2>&1)
then echo reached; else printf '%s\\n' "$said"; fi
"""


def _look_api(ctx: StepContext) -> ShellLook:
    """Only where no kubeconfig proves it already."""
    if ctx.host not in ctx.facts.found.get("access.kubeconfig", {}):
        return ShellLook(":", lambda out: None)
    ca = shlex.quote(ctx.facts.one("access.cluster")["trusts"])
    script = _REACH.format(ca=ca, server=shlex.quote(kubeconfig.server(ctx)))
    return ShellLook(script, lambda out: out.decode(errors="replace").strip())


def _judge_api(ctx: StepContext, have: Value) -> Sequence[Finding]:
    if kubeconfig.reaches(ctx) or have in ("", "reached"):
        return ()
    if have is None:
        raise NotYetKnown("access")
    _needs_the_api(ctx)
    text = f"{ctx.host} does not reach the API server at {kubeconfig.server(ctx)}: {have}"
    fix = "set access.server to an address that its certificate names and this host reaches"
    return (Finding("api-unreachable", text, fix),)


REGISTRY = Check("registry", "master", _look_registry, _judge_registry)
API = Check("api", "controller", _look_api, _judge_api)
