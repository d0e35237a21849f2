"""The last words of containers of DWS that end again and again: Kubernetes itself says only that it waits before the next start."""

from __future__ import annotations

import re
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

_LINES = 200
"""Lines that are searched: a stack trace of all goroutines follows the line that says what happened."""

_ERRORS = (
    r"^(panic|fatal error): |^[EF][0-9]{4} |[[:space:]](ERROR|FATAL|PANIC|DPANIC)[[:space:]]"
    r'|level"?[=:] ?"?(error|fatal|panic)'
)
"""Lines in which a program in Go says why it ends, by its runtime, klog, zap (as text or JSON) or logrus."""


def _look(ctx: StepContext) -> ShellLook:
    context = f" --context {shlex.quote(ctx.site.master.context)}" if ctx.site.master.context else ""
    kubectl = f"timeout -k 1 20 kubectl{context} --request-timeout 15s --namespace {names.NAMESPACE}"
    script = f"""
{kubectl} get pods --output go-template={shlex.quote(_NOT_READY)} 2>/dev/null </dev/null | head -n {_MOST} |
    while read -r pod container; do
        said=$({kubectl} logs "$pod" --container "$container" --previous --tail {_LINES} 2>/dev/null </dev/null | grep -v '^ *$')
        words=$(printf '%s\\n' "$said" | grep -E {shlex.quote(_ERRORS)} | tail -n 1)
        [ -n "$words" ] || words=$(printf '%s\\n' "$said" | tail -n 2 | paste -sd " " -)
        [ -z "$words" ] || printf 'words=%s: %.400s\\n' "$container" "$words"
    done
"""
    return FACT.shell(script, parse)


_HEAD = re.compile(r"(?:[EF]\d{4} \S+ +\d+ |\d{4}-\d\d-\d\dT\S+ +)")
"""The time and the thread in front of a line of klog or zap."""


def parse(out: bytes) -> list[str]:
    """ "CONTAINERS: their last words", each once, without secrets."""
    said: dict[str, dict[str, None]] = {}
    for value in map(redact.text, all_values(parse_pairs(out, "replace"), "words")):
        container, _, words = value.partition(": ")
        said.setdefault(_HEAD.sub("", words.replace("\t", " "), count=1), {})[container] = None
    return [f"{', '.join(containers)}: {words}" for words, containers in said.items()]


def last_words(ctx: StepContext) -> str:
    """What the containers said before they ended, for the end of a text; "" if none has ended."""
    said: Sequence[str] = ctx.facts.known(FACT).get(ctx.host, ())
    return f". Before it ended, {' / '.join(said)}" if said else ""


FACT: Fact[list[str]] = Fact("doctor", "crashes")
CHECK = Check(FACT.step, "master", _look, lambda ctx, have: ())
