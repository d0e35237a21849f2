"""Endpoints that a run needs: the registry has to respond to the master, and the API server to the controllers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.step import Check, Finding, NotYetKnown, ShellLook, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.facts import API_SERVER, CLUSTER, KUBECONFIG

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
        text = f"cannot read the registry's credential from the Secret {secret}: {have[7:]}"
        return (Finding("registry-secret", text, "correct registry.secret, or create that Secret"),)
    code = have.rpartition("code ")[2]
    if code == "200":
        return ()
    if code in ("401", "403"):
        fix = f"if the password was changed in Nexus, set the new one in the Secret {secret}"
        text = f"{registry.name} rejects the credential of the Secret {secret} (HTTP {code})"
        return (Finding("registry-credential", text, fix),)
    reason = have.split("\n")[0].removesuffix(f"code {code}").strip() or f"HTTP {code}"
    fix = f"run `curl -v https://{registry.name}/v2/` on {ctx.host} to see the cause"
    return (Finding("registry-unreachable", f"{registry.name} does not respond as a registry: {reason}", fix),)


def _needs_the_api(ctx: StepContext) -> None:
    """Raise NotYetKnown where the master itself does not reach the API server: the check `cluster` reports that."""
    if not ctx.facts.known(CLUSTER):
        raise NotYetKnown("preflight")


# --- the API server, as a controller reaches it

# curl's exit code says whether the address responds with a certificate of this CA that names it; any HTTP status is good then.
# Without curl the result is unknown, and the step of the kubeconfig reports a failure later.
_REACH = """
command -v curl >/dev/null || exit 0
if output=$(printf '%s' {ca} | curl --silent --show-error --max-time 10 --proto =https \
    --cacert /dev/stdin --output /dev/null --url {server}/version 2>&1)
then echo reached; else printf '%s\\n' "$output"; fi
"""


def _look_api(ctx: StepContext) -> ShellLook:
    """The look is made only where no kubeconfig proves the connection already."""
    if ctx.host not in ctx.facts.known(KUBECONFIG):
        return ShellLook(":", lambda out: None)
    ca = shlex.quote(ctx.facts.one(API_SERVER)["trusts"])
    script = _REACH.format(ca=ca, server=shlex.quote(kubeconfig.server(ctx)))
    return ShellLook(script, lambda out: out.decode(errors="replace").strip())


def _judge_api(ctx: StepContext, have: Value) -> Sequence[Finding]:
    if kubeconfig.reaches(ctx) or have in ("", "reached"):
        return ()
    if have is None:
        raise NotYetKnown("access")
    _needs_the_api(ctx)
    text = f"{ctx.host} cannot connect to the API server at {kubeconfig.server(ctx)}: {have}"
    fix = "set access.server to an address that is in the API server's certificate and that this host can reach"
    return (Finding("api-unreachable", text, fix),)


REGISTRY = Check("registry", "master", _look_registry, _judge_registry)
API = Check("api", "controller", _look_api, _judge_api)
