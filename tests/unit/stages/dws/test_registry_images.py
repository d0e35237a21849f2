"""What the registry has under an image's name, by its answers: an image, an index of several, or what no registry answers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.step import Facts, NotYetKnown, Refused, Step, StepContext
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.facts import REGISTRY_ANSWER
from tests.unit.registry_host import RegistryHost
from tests.unit.registry_server import Registry, name_of

pytestmark = pytest.mark.slow

CONFIG, OTHER, LOST = (f"sha256:{letter * 64}" for letter in "abc")
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture
def host(tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> RegistryHost:
    host = RegistryHost(tmp_path, tls[1])
    (tmp_path / "bin").mkdir()
    return host


def manifest(config: str = CONFIG) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": IMAGE, "config": {"digest": config, "size": 1}, "layers": []}


def entry(digest: str, architecture: str = "amd64", system: str = "linux", **more: Any) -> dict[str, Any]:
    platform = {"os": system, "architecture": architecture, **more}
    return {"mediaType": IMAGE, "digest": digest, "size": 500, "platform": platform}


def test_an_image(registry: Registry, host: RegistryHost) -> None:
    """An image's state is its configuration's digest, or "absent", also below a path of the registry."""
    registry.manifest(manifest(), "1")
    name = name_of(registry)
    assert [host.state(name), host.state(name, "dws:2"), host.state(f"{name}/repository/docker")] == [
        CONFIG,
        "absent",
        CONFIG,
    ]
    paths = [path for _, path, _ in registry.seen if path != "/v2/"]
    assert paths == [
        f"/v2/{path}" for path in ("dws/manifests/1", "dws/manifests/2", "repository/docker/dws/manifests/1")
    ]


@pytest.mark.parametrize("kind", [INDEX, LIST])
def test_an_index_counts_as_the_image_in_it(registry: Registry, host: RegistryHost, kind: str) -> None:
    """An index counts as its image for linux on this kind of machine, in any place of the list."""
    child, arm = registry.manifest(manifest()), registry.manifest(manifest(OTHER))
    attested = {
        **entry(LOST, "unknown", "unknown"),
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    listed = [attested, entry(arm, "arm64"), entry(LOST, "amd64", "windows"), "x", {}, entry(child), entry(arm)]
    registry.manifest({"schemaVersion": 2, "mediaType": kind, "manifests": listed}, "1")
    assert host.state(name_of(registry)) == CONFIG


@pytest.mark.parametrize("listed", ["none", "null", "arm", "lost", "nested"])
def test_an_index_without_the_image_is_another_image(registry: Registry, host: RegistryHost, listed: str) -> None:
    """An index without that image has its own digest: it is replaced only after a confirmation."""
    nested = registry.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
    entries = {
        "none": [],
        "null": None,
        "arm": [entry(registry.manifest(manifest()), "arm64")],
        "lost": [entry(LOST)],
        "nested": [entry(nested)],
    }
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries[listed]}
    digest = registry.manifest(content, "1")
    assert host.state(name_of(registry)) in (digest, nested)


@pytest.mark.parametrize("beside", [[], ["unknown"], ["unknown", "arm64"]])
def test_an_index_of_one_image_needs_no_platform(registry: Registry, host: RegistryHost, beside: list[str]) -> None:
    """An index with one image without a platform counts as that image, also beside attestations and images of other machines."""
    listed = [entry(LOST, machine, "unknown" if machine == "unknown" else "linux") for machine in beside]
    listed.append({"mediaType": IMAGE, "digest": registry.manifest(manifest())})
    registry.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}, "1")
    assert host.state(name_of(registry)) == CONFIG


def test_an_index_of_two_images_without_platform_is_another_image(registry: Registry, host: RegistryHost) -> None:
    """Which of them a node would take is not known."""
    listed = [{"mediaType": IMAGE, "digest": registry.manifest(manifest(config))} for config in (CONFIG, OTHER)]
    digest = registry.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}, "1")
    assert host.state(name_of(registry)) == digest


BODIES = [
    b"null",
    b"[]",
    b'""',
    b"",
    b"0",
    b"{}",
    b"<html></html>",
    b'{"config":null}',
    b'{"config":[]}',
    b'{"config":{}}',
]
BODIES += [
    b'{"config":{"digest":null}}',
    b'{"config":{"digest":"sha256:x y"}}',
    b'{"config":{"digest":7}}',
    b'{"manifests":"x"}',
]
BODIES += [
    b'{"schemaVersion":2,"config":{"digest":"sha256:',
    b"\xff\xfe{",
    b"[" * 100_000,
    b'{"config":null,"manifests":[]}',
]
BODIES += [b'{"manifests":{"a":1}}']


@pytest.mark.parametrize(
    ("body", "kind"), [*((body, IMAGE) for body in BODIES), (b"{}", "text/html"), (b"", "text/plain")], ids=repr
)
def test_what_no_registry_answers_is_said(registry: Registry, host: RegistryHost, body: bytes, kind: str) -> None:
    """An answer that is not a registry's is reported, whatever its content type, and nothing is pushed over it."""
    registry.answers["/v2/dws/manifests/1"] = (200, kind, body, ())
    name = name_of(registry)
    out = host.run(name, f"ask_registry images {name}/dws:1").stdout.encode()
    seen = images.PUSHED.shell("", images.parse_pushed).parse(out)[f"{name}/dws:1"]
    assert seen["registry"] == images.UNREADABLE
    assert seen["problem"].startswith("it does not answer as a registry: it sends ")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, "application/json", b"{}", ()), ""),
        ((200, "text/plain", b"", ()), ""),
        ((200, "application/json", b"true", ()), ""),
        ((200, "text/plain", b"hello", (("Docker-Distribution-Api-Version", "registry/2.0"),)), ""),
        ((200, "text/html", b"<html>Nexus</html>", ()), "a web page"),
        ((200, "text/plain", b"<html>Nexus</html>", ()), "<html>"),
        ((200, "application/json", b'{"a":', ()), "it sends"),
        ((302, "text/html", b"", (("Location", "/login"),)), "HTTP 302 to /login"),
        ((404, "text/html", b"", ()), "HTTP 404"),
        ((503, "text/html", b"", ()), "HTTP 503"),
    ],
)
def test_a_server_that_is_no_registry_is_a_finding(
    registry: Registry, host: RegistryHost, answer: tuple[int, str, bytes, tuple[tuple[str, str], ...]], problem: str
) -> None:
    """/v2/ answers with JSON or with nothing, or says which API it has."""
    registry.answers["/v2/"] = answer
    told = host.check(name_of(registry))
    assert (told.get("problem", ""), problem in told.get("text", "")) == ("unreachable" if problem else "", True)


def test_an_answer_that_is_no_http_is_one_line_of_text(registry: Registry, host: RegistryHost) -> None:
    """It becomes no line of its own, and says what came."""
    registry.answers["/v2/dws/manifests/1"] = (0, IMAGE, b"{}", ())
    name = name_of(registry)
    told = host.run(name, f"ask_registry images {name}/dws:1").stdout.splitlines()
    words = "it does not answer as a registry: it sends HTTP/1.0 0"
    assert told == [f"image {name}/dws:1 unreadable", f"problem {name}/dws:1 {words}"]


@pytest.mark.parametrize("status", [401, 403, 500, 502])
def test_a_registry_that_gives_no_manifest_is_not_readable(registry: Registry, host: RegistryHost, status: int) -> None:
    """If the user has no rights, or the server fails, the image may exist: it is not readable, not absent."""
    registry.answers["/v2/dws/manifests/1"] = (status, "application/json", b"{}", ())
    assert f"HTTP {status}" in host.state(name_of(registry))


def test_a_registry_that_is_gone_is_said_of_each_image(host: RegistryHost) -> None:
    """If the registry does not answer, the look gives that state for each image and does not fail."""
    done = host.run("127.0.0.1:1", "ask_registry images 127.0.0.1:1/a:1 127.0.0.1:1/b:1")
    assert done.returncode == 0
    seen = images.parse_pushed(done.stdout.encode())
    assert {name: (one["registry"], one["problem"]) for name, one in seen.items()} == {
        f"127.0.0.1:1/{one}:1": ("unreadable", "Connection refused") for one in "ab"
    }


@pytest.mark.parametrize(("status", "cause"), [(401, "rejected"), (403, "rejected"), (500, "")])
def test_the_fix_follows_from_the_cause(registry: Registry, host: RegistryHost, status: int, cause: str) -> None:
    """Whatever the registry writes in its answer, the fix follows from the word for the cause alone."""
    registry.answers["/v2/dws/manifests/1"] = (status, "text/html", b"the certificate rejects", ())
    name = name_of(registry)
    out = host.run(name, f"ask_registry images {name}/dws:1").stdout.encode()
    seen = images.parse_pushed(out)
    assert seen[f"{name}/dws:1"].get("cause", "") == cause
    facts = Facts({images.PUSHED.name: {"ncn-m001": seen}})
    pushed = next(step for step in images.STAGE.steps if isinstance(step, Step) and step.name == images.PUSHED.step)
    assert pushed.change
    with pytest.raises(Refused) as refused:
        pushed.change(StepContext(load(DEFAULT), facts, "ncn-m001"), seen, {})
    assert ("set the new password in the Secret" in refused.value.findings[0].fix) == bool(cause)


@pytest.mark.parametrize("problem", ["credential", "unreachable", ""])
def test_a_registry_that_cannot_be_used_is_reported_once(problem: str) -> None:
    """By the preflight: what the registry says of each image is a refusal of its own only where nothing else was reported."""
    said = {"reg/dws:1": images.Image(registry=images.UNREADABLE, pushed="never by this tool", problem="HTTP 401")}
    facts = Facts({REGISTRY_ANSWER.name: {"ncn-m001": {"tls": "", "problem": problem, "text": "HTTP 401"}}})
    facts.found[images.PUSHED.name] = {"ncn-m001": said}
    context = StepContext(load(DEFAULT), facts, "ncn-m001")
    pushed = next(step for step in images.STAGE.steps if isinstance(step, Step) and step.name == images.PUSHED.step)
    assert pushed.change
    with pytest.raises(NotYetKnown if problem else Refused):
        pushed.change(context, said, {})
