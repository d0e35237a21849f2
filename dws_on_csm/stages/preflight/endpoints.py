"""Endpoints that a run needs: the registry has to respond to the master, and the API server to the controllers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.step import Check, Finding, NotYetKnown, Refused, ShellLook, StepContext, Value
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.facts import API_SERVER, CLUSTER, KUBECONFIG, REGISTRY_ANSWER, RegistryAnswer

# --- the registry


def _look_registry(ctx: StepContext) -> ShellLook:
    try:
        known = images.known(ctx)
    except Refused:
        known = ""  # the stage `images` reports an image that this tool does not know
    return ShellLook(render.read("master/registry_look.sh"), _parse_registry, images.registry_library(ctx.site, known))


def _parse_registry(out: bytes) -> RegistryAnswer:
    """Raises ValueError, KeyError."""
    answer = json.loads(out)
    problem, text, cause = (answer.get(key, "") for key in ("problem", "text", "cause"))
    return {"tls": answer["tls"], "problem": problem, "text": text, "cause": cause}


def _judge_registry(ctx: StepContext, have: Value) -> Sequence[Finding]:
    registry, text = ctx.site.registry, have["text"]
    secret = f"{registry.secret_namespace}/{registry.secret_name}"
    if have["problem"] == "secret":
        _needs_the_api(ctx)
        text = f"cannot read the registry's credential from the Secret {secret}: {text}"
        return (Finding("registry-secret", text, _secret_fix(registry.secret_namespace, registry.secret_name)),)
    findings = {
        "credential": Finding(
            "registry-credential",
            f"{registry.host} rejects the credential of the Secret {secret} ({text})",
            images.password_fix(ctx.site),
        ),
        "token": Finding(
            "registry-token",
            f"{registry.host} wants its password sent to another host ({text}) to get a token",
            "add that host to registry.token_hosts if it may get the password and has https; otherwise correct the registry",
        ),
        "podman": Finding(
            "podman-broken",
            f"podman does not work on {ctx.host}: {text}",
            f"run `podman info` on {ctx.host}, and correct podman's configuration (/etc/containers)",
        ),
        "unreachable": Finding(
            "registry-unreachable",
            f"{registry.host} cannot be used: {text}",
            images.registry_fix(ctx.site, have.get("cause", "")),
        ),
    }
    return (findings[have["problem"]],) if have["problem"] else ()


def _secret_fix(namespace: str, name: str) -> str:
    template = "{{range $key, $value := .data}}{{$key}} {{end}}"
    command = shlex.join(["kubectl", "-n", namespace, "get", "secret", name, "-o", f"go-template={template}"])
    fix = (
        f"run `{command}` on the master: it shows the names of the Secret's keys, which must be username and password. "
    )
    return f"{fix}Correct registry.secret, or create that Secret again"


def _note_registry(ctx: StepContext, have: Value) -> str:
    return images.tls_text(ctx.site, have["tls"])


def _needs_the_api(ctx: StepContext) -> None:
    """Raise NotYetKnown where the master itself does not reach the API server: the check `cluster` reports that."""
    if not ctx.facts.known(CLUSTER):
        raise NotYetKnown("preflight")


# --- the API server, as a controller reaches it

# Prints curl's error; nothing where the address responds with a certificate of this CA that names it: any HTTP status is good then.
# Without curl the result is unknown, and the step of the kubeconfig reports a failure later.
_REACH = """
command -v curl >/dev/null || exit 0
output=$(printf '%s' {ca} | curl --disable --silent --show-error --max-time 10 --proto =https \
    --cacert /dev/stdin --output /dev/null --url {server}/version 2>&1) || printf '%s\\n' "${{output:-curl failed}}"
"""


def _look_api(ctx: StepContext) -> ShellLook:
    """The look is made only where no kubeconfig proves the connection already."""
    if ctx.host not in ctx.facts.known(KUBECONFIG):
        return ShellLook(":", lambda out: None)
    ca = shlex.quote(ctx.facts.one(API_SERVER)["trusts"])
    script = _REACH.format(ca=ca, server=shlex.quote(kubeconfig.server(ctx)))
    return ShellLook(script, lambda out: out.decode(errors="replace").strip())


def _judge_api(ctx: StepContext, have: Value) -> Sequence[Finding]:
    if kubeconfig.reaches(ctx) or have == "":
        return ()
    if have is None:
        raise NotYetKnown("access")
    _needs_the_api(ctx)
    text = f"{ctx.host} cannot connect to the API server at {kubeconfig.server(ctx)}: {have}"
    fix = "set access.server to an address that is in the API server's certificate and that this host can reach"
    return (Finding("api-unreachable", text, fix),)


REGISTRY = Check(REGISTRY_ANSWER.step, "master", _look_registry, _judge_registry, note=_note_registry)
API = Check("api", "controller", _look_api, _judge_api)
