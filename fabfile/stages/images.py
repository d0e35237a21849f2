"""The images that the manifests ask for, in the site's registry."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from fabfile.actions import STATE
from fabfile.inventory import Site
from fabfile.stages import manifests
from fabfile.step import Action, Finding, Place, Refused, Sh, Shell, Stage, Step, Unknown, Value

RECORD = f"{STATE}/images.json"
"""On the master: image -> digest of its configuration as it was pushed (it is the same in every registry)."""


# The credential goes from the Secret to curl and podman through pipes on the master: it is in no argv and in no file.
CREDENTIAL = """
credential() {{
    kubectl get secret --namespace {namespace} {secret} --output json | python3 -c '
import base64, json, sys
data = {{key: base64.b64decode(value).decode() for key, value in json.load(sys.stdin)["data"].items()}}
pair = data["username"] + ":" + data["password"]
if sys.argv[1] == "curl":
    quoted = pair.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))
    print("user = " + chr(34) + quoted + chr(34))
else:
    print(json.dumps({{"auths": {{sys.argv[2]: {{"auth": base64.b64encode(pair.encode()).decode()}}}}}}))
' "$@"
}}
"""


def credential(site: Site) -> str:
    """A shell function: `credential curl` prints a curl configuration, `credential podman REGISTRY` an authfile."""
    return CREDENTIAL.format(
        namespace=shlex.quote(site.registry.secret_namespace), secret=shlex.quote(site.registry.secret_name)
    )


_LOOK = """
{credential}
accept='application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'
login=$(credential curl) || exit 1
images={images}
# before the manifests were read: those that were pushed the last time, which are the same ones unless something changed
[ -n "$images" ] || images=$(python3 -c 'import json, sys; print(*json.load(open(sys.argv[1])))' {record} 2>/dev/null) || true
for image in $images; do
    path=${{image#*/}}; name=${{path%:*}}; tag=${{path##*:}}
    printf '%s %s ' "$image" {registry}
    printf '%s\\n' "$login" | curl --config - --silent --show-error --max-time 20 --header "Accept: $accept" \\
        --write-out ' %{{http_code}}' https://{registry}/v2/$name/manifests/$tag | tr -d '\\n' || true
    echo
done
echo "record $(cat {record} 2>/dev/null | tr -d '\\n')"
"""


def _look_pushed(place: Place) -> Shell:
    script = _LOOK.format(
        credential=credential(place.site),
        images=shlex.quote(" ".join(_asked(place))),
        registry=shlex.quote(place.site.registry.name),
        record=RECORD,
    )
    return Shell(script, _parse_pushed)


def _asked(place: Place) -> Mapping[str, str]:
    try:
        return manifests.asked(place)
    except Unknown:
        return {}


def _read_pushed(place: Place, found: Value) -> Value:
    asked = manifests.asked(place)
    return {name: found.get(name, {"registry": "not asked yet", "pushed": _NEVER}) for name in asked}


_NEVER = "never by this tool"


def _parse_pushed(out: bytes) -> Value:
    found: dict[str, dict[str, str]] = {}
    record: dict[str, str] = {}
    for line in out.decode().splitlines():
        word, _, rest = line.partition(" ")
        if word == "record":
            record = json.loads(rest or "{}")
        elif word:
            found[word] = {"registry": _in_registry(rest.partition(" ")[2])}
    return {name: one | {"pushed": record.get(name, _NEVER)} for name, one in found.items()}


def _in_registry(answer: str) -> str:
    body, _, code = answer.rpartition(" ")
    if code == "200":
        return str(json.loads(body)["config"]["digest"])
    return "absent" if code == "404" else f"not readable: {_MEANING.get(code, 'HTTP ' + code)}"


_MEANING = {
    "401": "the registry refuses the credential (HTTP 401)",
    "403": "the registry refuses this user (HTTP 403)",
    "000": "the registry can't be reached",
    "": "the registry can't be reached",
}


def _want_pushed(place: Place) -> Value:
    have = _read_pushed(place, place.facts.one("images.pushed"))
    same = {
        name: one["pushed"] if one["pushed"].startswith("sha256:") else "as its source" for name, one in have.items()
    }
    return {name: {"registry": digest, "pushed": digest} for name, digest in same.items()}


def _change_pushed(place: Place, have: Value, want: Value) -> Sequence[Action]:
    bad = {name: one["registry"] for name, one in have.items() if one["registry"].startswith("not readable")}
    if bad:
        why = next(iter(bad.values())).removeprefix("not readable: ")
        raise Refused(Finding("registry-unreadable", f"{place.site.registry.name}: {why}", _fix(place.site, why)))
    sources = manifests.asked(place)
    wrong = [name for name in have if have[name] != want[name]]
    return [
        _writable(place.site, wrong[0]),
        *(_push(place.site, name, sources[name], have[name]["registry"]) for name in wrong),
    ]


def _fix(site: Site, why: str) -> str:
    secret = f"{site.registry.secret_namespace}/{site.registry.secret_name}"
    if "40" in why:
        return f"was the password changed in Nexus? Then set it in the Secret {secret} too, and run again"
    return f"see `curl -v https://{site.registry.name}/v2/` on the master"


def _writable(site: Site, name: str) -> Sh:
    """An upload is begun and taken back: a registry that is read-only or full says so before anything is pulled."""
    path = name.partition("/")[2].rpartition(":")[0]
    script = f"""
{credential(site)}
login=$(credential curl)
answer=$(printf '%s\\n' "$login" | curl --config - --silent --show-error --max-time 20 --request POST --dump-header - \\
    --output /dev/null --write-out 'code %{{http_code}}' https://{site.registry.name}/v2/{path}/blobs/uploads/ --data '')
code=${{answer##*code }}
if [ "$code" != 202 ]; then echo "the registry takes no upload: HTTP $code"; exit 1; fi
place=$(printf '%s\\n' "$answer" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
case $place in /*) place=https://{site.registry.name}$place;; esac
printf '%s\\n' "$login" | curl --config - --silent --max-time 20 --request DELETE --output /dev/null "$place" || true
"""
    return Sh(f"see that {site.registry.name} takes uploads", script, 60.0)


_PUSH = """
{credential}
digest=
for source in {sources}; do
    echo "pulling $source"
    if podman pull --quiet "$source" >/dev/null; then digest=$(podman image inspect --format '{{{{.Id}}}}' "$source"); break; fi
done
[ -n "$digest" ] || {{ echo "no source has it"; exit 1; }}
digest=sha256:${{digest#sha256:}}
if [ "$digest" = {there} ]; then echo "the registry has it already"
else
    podman tag "$source" {image}
    echo "pushing {image}"
    credential podman {registry} | podman push --quiet --authfile /dev/stdin {image}
fi
python3 - {record} {image} "$digest" <<'PROGRAM'
import json, os, sys
path, image, digest = sys.argv[1:]
record = json.load(open(path)) if os.path.exists(path) else {{}}
record[image] = digest
with open(path + ".part", "w") as part:
    json.dump(record, part)
os.rename(path + ".part", path)
PROGRAM
"""


def _push(site: Site, name: str, source: str, there: str) -> Sh:
    tag = name.rpartition(":")[2]
    script = _PUSH.format(
        credential=credential(site),
        sources=shlex.join(f"{base}:{tag}" for base in getattr(site.sources, source)),
        image=shlex.quote(name),
        registry=shlex.quote(site.registry.name),
        record=RECORD,
        there=shlex.quote(there),
    )
    return Sh(f"pull, tag and push {name}", script, site.deadlines.image)


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
            hint="a registry that is read-only or full, a stale password in the Secret, or a source that can't be reached",
        ),
    ),
)
