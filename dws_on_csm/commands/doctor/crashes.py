"""The last words of containers of DWS that end again and again: Kubernetes itself says only that it waits before the next start."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.domain import names
from dws_on_csm.model.lines import all_values, parse_pairs
from dws_on_csm.model.step import Check, Fact, ShellLook, StepContext
from dws_on_csm.redaction import redact

_NOT_READY = (
    "{{range .items}}{{$pod := .metadata.name}}{{range .status.containerStatuses}}{{if and (not .ready) .restartCount}}"
    "{{$pod}} {{.name}}{{println}}{{end}}{{end}}{{end}}"
)
"""Pods and containers that are not ready and have ended before, for `kubectl get --output go-template`."""

_MOST = 4
"""Containers that are asked: the pods of the webhook say the same."""


def _look(ctx: StepContext) -> ShellLook:
    context = f" --context {shlex.quote(ctx.site.master.context)}" if ctx.site.master.context else ""
    kubectl = f"timeout -k 1 20 kubectl{context} --request-timeout 15s --namespace {names.NAMESPACE}"
    script = f"""
{kubectl} get pods --output go-template={shlex.quote(_NOT_READY)} 2>/dev/null </dev/null | head -n {_MOST} |
    while read -r pod container; do
        words=$({kubectl} logs "$pod" --container "$container" --previous --tail 3 2>/dev/null </dev/null |
            grep -v '^ *$' | tail -n 2 | paste -sd " " -)
        [ -z "$words" ] || printf 'words=%s: %.400s\\n' "$container" "$words"
    done
"""
    return FACT.shell(script, parse)


def parse(out: bytes) -> list[str]:
    """ "CONTAINER: its last lines", each once, without secrets."""
    return list(dict.fromkeys(map(redact.text, all_values(parse_pairs(out, "replace"), "words"))))


def last_words(ctx: StepContext) -> str:
    """What the containers said before they ended, for the end of a text; "" if none has ended."""
    said: Sequence[str] = ctx.facts.known(FACT).get(ctx.host, ())
    return f". Before it ended, {' / '.join(said)}" if said else ""


FACT: Fact[list[str]] = Fact("doctor", "crashes")
CHECK = Check(FACT.step, "master", _look, lambda ctx, have: ())
