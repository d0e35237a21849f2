"""The images of DWS's manifests, in the site's registry."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from dws_on_csm.bundle import sources
from dws_on_csm.config.site import Site
from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, RunScript
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import (
    Fact,
    Finding,
    NotYetKnown,
    Refused,
    Removal,
    ShellLook,
    Stage,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.stages.dws import manifests
from dws_on_csm.stages.facts import REGISTRY_ANSWER


class Image(TypedDict):
    """An image of DWS's manifests in the registry.

    registry  the digest of its configuration, ABSENT, or UNREADABLE
    pushed    the digest that this tool pushed
    problem   why the registry does not say what it has, in words; "" where it does
    cause     what makes it unreadable, in a word of templates/master/registry.py, where the fix depends on that
    """

    registry: str
    pushed: str
    problem: str
    cause: NotRequired[str]


PUSHED: Fact[dict[str, Image]] = Fact("images", "pushed")

RECORD = f"{STATE}/images"
"""On the master: a line for each image that was pushed, with the digest of its configuration (the same in every registry)."""


def registry_settings(site: Site) -> dict[str, str]:
    """The variables of templates/master/registry.sh."""
    registry = site.registry
    return {
        "registry": registry.name,
        "registry_secret": f"{registry.secret_namespace}/{registry.secret_name}",
        "token_hosts": " ".join(registry.token_hosts),
        "registry_program": render.read("master/registry.py"),
    }


def tls_text(site: Site, tls: str) -> str:
    """What a run says where the registry's TLS is not verified; "" where it is."""
    texts = {
        "unverified": "TLS is not verified, as registries.conf says",
        "plain": "the password and images are sent without TLS (http), as registries.conf says",
    }
    return f"{site.registry.host}: {texts[tls]}" if tls in texts else ""


def known(ctx: StepContext) -> str:
    """The images that DWS needs, with blanks between; "" before its manifests were read. Raises Refused."""
    try:
        return " ".join(manifests.image_sources(ctx))
    except NotYetKnown:
        return ""


def registry_library(site: Site, images: str) -> str:
    """What the looks at the registry begin with: one program for all of them, which asks for the credential and connects once.
    `images`: as `known` has them."""
    settings = registry_settings(site) | {"images": images, "record": RECORD}
    return render.script("master/registry.sh", "master/registry_seen.sh", **settings)


def _look_pushed(ctx: StepContext) -> ShellLook:
    return PUSHED.shell(render.read("master/images_look.sh"), parse_pushed, registry_library(ctx.site, known(ctx)))


class Digests(TypedDict):
    """An image in the registry and as this tool pushed it: the digests, or words."""

    registry: str
    pushed: str


def _read_pushed(ctx: StepContext, images: Mapping[str, Image]) -> dict[str, Digests]:
    unknown: Image = {"registry": "not checked yet", "pushed": _NEVER, "problem": ""}
    seen = {name: images.get(name, unknown) for name in manifests.image_sources(ctx)}
    return {name: {"registry": _registry_text(image), "pushed": image["pushed"]} for name, image in seen.items()}


def _registry_text(image: Image) -> str:
    return f"not readable: {image['problem']}" if image["registry"] == UNREADABLE else image["registry"]


_NEVER = "never by this tool"

ABSENT, UNREADABLE = "absent", "unreadable"


def unreadable(ctx: StepContext) -> dict[str, Image]:
    """The images of which the registry does not say what it has."""
    seen = ctx.facts.one_or_none(PUSHED) or {}
    return {name: image for name, image in seen.items() if image["registry"] == UNREADABLE}


def has_digest(state: str) -> bool:
    """Whether what is known of an image is a digest."""
    return state.startswith("sha256:")


def parse_pushed(out: bytes) -> dict[str, Image]:
    """Image -> what the registry has, and what this tool pushed."""
    rows = [line.split(" ", 2) for line in lines(out) if line.count(" ") > 1]
    pushed, states, problems, causes = (
        {name: value for word, name, value in rows if word == key} for key in ("pushed", "image", "problem", "cause")
    )
    images: dict[str, Image] = {
        name: {"registry": state, "pushed": pushed.get(name, _NEVER), "problem": problems.get(name, "")}
        for name, state in states.items()
    }
    for name, cause in causes.items():
        images[name]["cause"] = cause
    return images


def _want_pushed(ctx: StepContext) -> Value:
    digests = {
        name: image["pushed"] if has_digest(image["pushed"]) else "as its source"
        for name, image in _read_pushed(ctx, ctx.facts.one(PUSHED)).items()
    }
    return {name: {"registry": digest, "pushed": digest} for name, digest in digests.items()}


def is_known_unusable(ctx: StepContext) -> bool:
    """Whether the preflight reports already why the registry cannot be used."""
    answer = ctx.facts.one_or_none(REGISTRY_ANSWER)
    return answer is not None and bool(answer["problem"])


def _change_pushed(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    if is_known_unusable(ctx):
        raise NotYetKnown(REGISTRY_ANSWER.stage)
    if image := next((image for name, image in unreadable(ctx).items() if name in have), None):
        fix = registry_fix(ctx.site, image.get("cause", ""))
        raise Refused(Finding("registry-unreadable", f"{ctx.site.registry.name}: {image['problem']}", fix))
    wrong = {name: image["registry"] for name, image in have.items() if image != want[name]}
    return [
        _check_uploads(ctx.site, next(iter(wrong))),
        *_push(ctx, wrong, {name: have[name]["pushed"] for name in wrong}),
    ]


def _pushed_removals(ctx: StepContext, have: Value, want: Value) -> Sequence[Removal]:
    """Images that somebody else pushed over those of this tool: the registry may have no other copy of them."""
    others = {
        name: (image["registry"], image["pushed"])
        for name, image in have.items()
        if image["registry"] != image["pushed"] and all(has_digest(image[key]) for key in ("registry", "pushed"))
    }
    return [
        Removal(
            f"the image {digest} in the registry as {name}, which this tool did not push (replaced by {pushed})",
            frozenset({f"{name} {digest}"}),
        )
        for name, (digest, pushed) in others.items()
    ]


def _accepted_pushed(ctx: StepContext, have: Value, want: Value) -> str:
    """The finding that a site may accept where its own images are the whole difference."""
    different = sum(1 for name, image in have.items() if image != want[name])
    return "image-differs" if len(_pushed_removals(ctx, have, want)) == different else ""


def digests_text(have: Value) -> str:
    """The images in the registry by the digests of their configurations, for the journal and the report."""
    return ", ".join(f"{name} {image['registry']}" for name, image in (have or {}).items())


def password_fix(site: Site) -> str:
    """What to do where the registry rejects the credential."""
    secret = f"{site.registry.secret_namespace}/{site.registry.secret_name}"
    return f"set the new password in the Secret {secret}, if it was changed in Nexus"


def registry_fix(site: Site, cause: str) -> str:
    """What to do where the registry gives no answer that can be used; `cause`: a word of templates/master/registry.py, or ""."""
    if cause == "rejected":
        return f"{password_fix(site)}, then run the same command again"
    look = f"run `curl -v https://{site.registry.host}/v2/` on the master to see the cause"
    if cause != "certificate":
        return look
    place = f"/etc/containers/certs.d/{site.registry.host}/ca.crt"
    certificate = (
        "the certificate of the CA that signed the registry's certificate (or that certificate, if it is self-signed)"
    )
    return f"put {certificate} into {place} on the master; {look}"


def _check_uploads(site: Site, name: str) -> RunScript:
    repository = name.partition("/")[2].rpartition(":")[0]
    settings = registry_settings(site) | {"repository": repository}
    title = f"check that {site.registry.name} accepts uploads"
    return RunScript(title, render.script("master/registry.sh", "master/images_writable.sh", **settings), 60.0)


def _push(ctx: StepContext, wrong: Mapping[str, str], known: Mapping[str, str]) -> Sequence[Action]:
    """Pull, tag and push these images in parallel; image -> its digest in the registry, and the digest that this tool pushed."""
    names = manifests.image_sources(ctx)
    supply = {name: sources.image(ctx.site, names[name], name.rpartition(":")[2]) for name in wrong}
    settings = registry_settings(ctx.site) | {"record": RECORD} | sources.settings(ctx.site)
    starts = [shlex.join(["start", name, digest, known[name], *supply[name].sources]) for name, digest in wrong.items()]
    scripts = ("lib/proxy.sh", "master/registry.sh", "lib/temporary.sh", "master/images_push.sh")
    script = "\n".join([render.script(*scripts, **settings), *starts, "finish"])
    title = f"pull, tag and push {' and '.join(wrong)}"
    uploads = [upload for parts in supply.values() for upload in parts.uploads]
    return [*uploads, RunScript(title, script, ctx.site.deadlines.image * len(wrong))]


STAGE = Stage(
    "images",
    ("workarea",),
    (
        Step(
            PUSHED.step,
            "master",
            _look_pushed,
            _want_pushed,
            _change_pushed,
            read=_read_pushed,
            status_text=digests_text,
            removes=_pushed_removals,
            accepted_as=_accepted_pushed,
            hint="check that the registry is neither read-only nor full, and that the master reaches the sources (docs/offline.md)",
        ),
    ),
)
