"""How the lab's programs are built, and what is made of cert-manager."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import certmanager, go_builds
from lab.layer import fill
from lab.releases import USUAL

MAIN = 'package main\n\nvar said = "unset"\n\nfunc main() { println(said) }\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of one program, with its own cache. Go's cache is shared: otherwise each test would compile Go's packages again."""
    kept = subprocess.run([str(go_builds.go()), "env", "GOCACHE"], capture_output=True, text=True, check=True).stdout
    monkeypatch.setenv("GOCACHE", kept.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "go.mod").write_text("module lab/hello\n\ngo 1.24.0\n")
    (folder / "main.go").write_text(MAIN)
    return folder


def test_a_program_is_built_once_with_its_flags(module: Path) -> None:
    """The second call announces nothing and returns the same file; the variable was set at link time."""
    announced: list[str] = []
    built = [
        go_builds.go_program("hello", module, ".", "-X main.said=hello", "1 s", announced.append) for _ in range(2)
    ]
    said = subprocess.run([built[0]], capture_output=True, text=True, check=True).stderr
    assert said == "hello\n"
    assert built[0] == built[1]
    # A busy machine may hear besides how far it is.
    assert [text for text in announced if not text.startswith("  ")] == ["building hello (about 1 s)"]


def test_a_changed_file_gives_another_program(module: Path) -> None:
    """The cache goes by contents: an edit is seen, and going back finds the first build again."""
    first = go_builds.go_program("hello", module, ".", announce=lambda text: None)
    (module / "main.go").write_text(MAIN.replace("unset", "changed"))
    second = go_builds.go_program("hello", module, ".", announce=lambda text: None)
    assert second != first
    assert subprocess.run([second], capture_output=True, text=True, check=True).stderr == "changed\n"


def test_a_build_that_fails_ends_with_the_compilers_words_and_leaves_nothing(module: Path) -> None:
    """The error names file and line; the next call builds again instead of finding half a program."""
    (module / "main.go").write_text(MAIN.replace("println", "printn"))
    with pytest.raises(go_builds.BuildError, match=r"main\.go:5:\d+: undefined: printn"):
        go_builds.go_program("hello", module, ".", announce=lambda text: None)
    (module / "main.go").write_text(MAIN)
    assert go_builds.go_program("hello", module, ".", announce=lambda text: None).is_file()


def test_a_missing_temporary_folder_does_not_matter(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build works whatever $TMPDIR and $GOFLAGS the caller has."""
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    assert go_builds.go_program("hello", module, ".", announce=lambda text: None).is_file()


def test_an_old_go_is_refused_with_where_to_get_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12's own Go is 1.19: the error says which is needed, and from where."""
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(go_builds.BuildError, match=r"Go 1\.24 or newer is needed.*go\.dev/dl.*go1\.19\.8"):
        go_builds.go_version()


def ours() -> list[dict[str, Any]]:
    return [
        document
        for document in yaml.safe_load_all(
            fill(certmanager.OURS.read_text(), {"VERSION": USUAL.cert_manager, "CA": "", "CA_KEY": ""})
        )
        if document
    ]


def test_deployments_run_the_built_images() -> None:
    """Nothing serves these images: a name that differed by a letter would never be found."""
    pods = [one["spec"]["template"]["spec"] for one in ours() if one["kind"] == "Deployment"]
    wanted = {container["image"] for pod in pods for container in pod["containers"]}
    assert wanted == {certmanager.image(part) for part in certmanager.COMPONENTS}


def test_every_service_leads_to_the_pods_of_a_deployment() -> None:
    """A Service's selector fits a Deployment's labels, and its port is one that the pod names."""
    pods = {one["metadata"]["name"]: one["spec"]["template"] for one in ours() if one["kind"] == "Deployment"}
    for service in (one for one in ours() if one["kind"] == "Service"):
        pod = pods[service["metadata"]["name"]]
        assert pod["metadata"]["labels"] == service["spec"]["selector"]
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


TEMPLATE = """
kind: CustomResourceDefinition
metadata:
  name: issuers.cert-manager.io
  annotations: {cert-manager.io/inject-ca-from-secret: '{{ template "webhook.caRef" . }}'}
spec:
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1, v1beta1]
      clientConfig:
        # {{- if .Values.webhook.url.host }}
        url: https://{{ .Values.webhook.url.host }}/convert
        # {{- else }}
        service: {name: '{{ template "webhook.fullname" . }}', path: /convert}
        # {{- end }}
  versions:
  - {name: v1alpha3, served: true, storage: false, schema: {description: prose}}
  - {name: v1, served: true, storage: true, schema: {properties: {description: {type: string, description: prose}}}}
"""


@pytest.mark.parametrize(("v1alpha3", "versions"), [(True, ["v1alpha3", "v1"]), (False, ["v1"])])
def test_a_charts_crd_is_filled_in_for_the_cluster(tmp_path: Path, v1alpha3: bool, versions: list[str]) -> None:
    """No template expression remains. Prose is removed, but a field description stays. Old versions go on request."""
    (tmp_path / "crd.yaml").write_text(TEMPLATE)
    crd = certmanager.fitted(tmp_path / "crd.yaml", v1alpha3)
    assert "{{" not in str(crd)
    assert [version["name"] for version in crd["spec"]["versions"]] == versions
    assert crd["spec"]["versions"][-1]["schema"] == {"properties": {"description": {"type": "string"}}}
    converts = crd["spec"]["conversion"].get("webhook", {}).get("clientConfig")
    assert converts == ({"service": certmanager.SERVICE, "caBundle": "@CA@"} if v1alpha3 else None)
