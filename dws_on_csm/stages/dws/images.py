"""The images that the manifests ask for, in the site's registry."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from dws_on_csm.bundle import supply as supplies
from dws_on_csm.config.site import Site
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding, NotYetKnown, Refused, Removal, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.stages.dws import manifests

RECORD = f"{STATE}/images"
"""On the master: image and digest of its configuration as it was pushed (the same in every registry), a line each."""


def reached(site: Site) -> dict[str, str]:
    """What templates/master/registry.sh needs to know."""
    registry = site.registry
    return {
        "registry": registry.name,
        "secret_namespace": registry.secret_namespace,
        "secret_name": registry.secret_name,
    }


def _look_pushed(ctx: StepContext) -> ShellLook:
    images = " ".join(_asked(ctx))
    settings = reached(ctx.site) | {"images": images, "record": RECORD}
    return ShellLook(render.script("master/registry.sh", "master/images_look.sh", **settings), _parse_pushed)


def _asked(ctx: StepContext) -> Mapping[str, str]:
    try:
        return manifests.image_sources(ctx)
    except NotYetKnown:
        return {}


def _read_pushed(ctx: StepContext, found: Value) -> Value:
    asked = manifests.image_sources(ctx)
    return {name: found.get(name, {"registry": "not asked yet", "pushed": _NEVER}) for name in asked}


_NEVER = "never by this tool"


def _parse_pushed(out: bytes) -> Value:
    """Image -> {"registry": digest of its configuration there or what is wrong, "pushed": the digest that was pushed}."""
    told = [line.split(" ", 2) for line in lines(out) if line.count(" ") > 1]
    pushed = {name: digest for word, name, digest in told if word == "pushed"}
    return {
        name: {"registry": _in_registry(answer), "pushed": pushed.get(name, _NEVER)}
        for word, name, answer in told
        if word == "image"
    }


def _in_registry(answer: str) -> str:
    body, _, code = answer.rpartition(" ")
    if code == "200":
        return str(json.loads(body).get("config", {}).get("digest", "not readable: it is no image's manifest"))
    return "absent" if code == "404" else f"not readable: {_MEANING.get(code, 'HTTP ' + code)}"


_MEANING = {
    "401": "the registry refuses the credential (HTTP 401)",
    "403": "the registry refuses this user (HTTP 403)",
    "000": "the registry can't be reached",
    "": "the registry can't be reached",
}


def _want_pushed(ctx: StepContext) -> Value:
    have = _read_pushed(ctx, ctx.facts.one("images.pushed"))
    same = {
        name: one["pushed"] if one["pushed"].startswith("sha256:") else "as its source" for name, one in have.items()
    }
    return {name: {"registry": digest, "pushed": digest} for name, digest in same.items()}


def _change_pushed(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    bad = {name: one["registry"] for name, one in have.items() if one["registry"].startswith("not readable")}
    if bad:
        why = next(iter(bad.values())).removeprefix("not readable: ")
        raise Refused(Finding("registry-unreadable", f"{ctx.site.registry.name}: {why}", _fix(ctx.site, why)))
    wrong = {name: one["registry"] for name, one in have.items() if one != want[name]}
    return [
        _writable(ctx.site, next(iter(wrong))),
        *_push(ctx, wrong, {name: have[name]["pushed"] for name in wrong}),
    ]


def _takes_pushed(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
    """Images that somebody else pushed over those of this tool: the registry may have them nowhere else."""
    others = {
        name: (one["registry"], one["pushed"])
        for name, one in have.items()
        if one["registry"] != one["pushed"] and all(one[key].startswith("sha256:") for key in ("registry", "pushed"))
    }
    return [
        Removal(
            f"the image {there} that {name} is in the registry, and that this tool did not push (replaced by {pushed})",
            frozenset({f"{name} {there}"}),
        )
        for name, (there, pushed) in others.items()
    ]


def _covered_pushed(ctx: StepContext, have: Value, want: Value) -> str:
    """Images that the site pushed itself are its to accept, where nothing else is wrong."""
    others = sum(1 for name, one in have.items() if one != want[name])
    return "image-differs" if len(_takes_pushed(ctx, have, want)) == others else ""


def _used(have: Value) -> str:
    """Which images the registry has, for the journal and the report: by the digests of their configurations."""
    return ", ".join(f"{name} {one['registry']}" for name, one in (have or {}).items())


def _fix(site: Site, why: str) -> str:
    secret = f"{site.registry.secret_namespace}/{site.registry.secret_name}"
    if "40" in why:
        return f"was the password changed in Nexus? Then set it in the Secret {secret} too, and run again"
    return f"see `curl -v https://{site.registry.name}/v2/` on the master"


def _writable(site: Site, name: str) -> RunScript:
    repository = name.partition("/")[2].rpartition(":")[0]
    settings = reached(site) | {"repository": repository}
    title = f"see that {site.registry.name} takes uploads"
    return RunScript(title, render.script("master/registry.sh", "master/images_writable.sh", **settings), 60.0)


def _push(ctx: StepContext, wrong: Mapping[str, str], known: Mapping[str, str]) -> Sequence[Action]:
    """Pull, tag and push these images, side by side; image -> what the registry has of it, and what this tool pushed."""
    asked = manifests.image_sources(ctx)
    supply = {name: supplies.image(ctx.site, asked[name], name.rpartition(":")[2]) for name in wrong}
    settings = reached(ctx.site) | {"record": RECORD} | supplies.settings(ctx.site)
    starts = [shlex.join(["start", name, there, known[name], *supply[name].sources]) for name, there in wrong.items()]
    scripts = ("lib/via.sh", "master/registry.sh", "lib/vanishing.sh", "master/images_push.sh")
    script = "\n".join([render.script(*scripts, **settings), *starts, "finish"])
    title = f"pull, tag and push {' and '.join(wrong)}"
    uploads = [upload for parts in supply.values() for upload in parts.uploads]
    return [*uploads, RunScript(title, script, ctx.site.deadlines.image * len(wrong))]


STAGE = Stage(
    "images",
    ("workarea",),
    (
        Step(
            "pushed",
            "master",
            _look_pushed,
            _want_pushed,
            _change_pushed,
            read=_read_pushed,
            status_text=_used,
            removes=_takes_pushed,
            accepted_as=_covered_pushed,
            hint="the registry may be read-only or full, or a source out of reach (docs/offline.md)",
        ),
    ),
)
