"""The registry's password goes to the registry and nowhere else, whatever an answer says: with the real sh and python3."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.preflight import endpoints
from tests.unit.registry_host import BASIC, PASSWORD, RegistryHost
from tests.unit.registry_server import Registry, name_of, serving

pytestmark = pytest.mark.slow

BEARER = "Bearer tok.en/1+2=="
TOKEN = (200, "application/json", json.dumps({"token": BEARER[7:]}).encode(), ())


@pytest.fixture
def host(tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> RegistryHost:
    return RegistryHost(tmp_path, tls[1])


@pytest.fixture
def thieves(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Mapping[str, Registry]]:
    """Servers of somebody else: one without TLS, and one with TLS whose certificate is trusted."""
    with serving(Registry()) as plain, serving(Registry(), tls[0]) as other:
        yield {"plain": plain, "other": other}


def begin(registry: Registry, host: RegistryHost, location: str) -> None:
    """Templates/images_writable.sh on a registry that names this place for an upload."""
    registry.location = location
    done = host.run(name_of(registry), "repository=dws\n" + render.read("master/images_writable.sh"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert registry.seen[:2] == [("GET", "/v2/", ""), ("POST", "/v2/dws/blobs/uploads/", BASIC)]


@pytest.mark.parametrize(
    "location", ["/v2/dws/blobs/uploads/1?a=b", "{base}/v2/dws/blobs/uploads/1?a=b", "/v2/[1-9]{{a,b}}"]
)
def test_an_incomplete_upload_is_cancelled_at_the_registry(
    registry: Registry, host: RegistryHost, location: str
) -> None:
    """A location on the registry itself, as a path or as a URL, is requested once, as it was named."""
    place = location.format(base=registry.base)
    begin(registry, host, place)
    assert registry.seen[2:] == [("DELETE", place.removeprefix(registry.base), BASIC)]


@pytest.mark.parametrize(
    "location",
    [
        "{plain}/v2/dws/blobs/uploads/1",
        "{other}/v2/dws/blobs/uploads/1",
        "HTTP{plain_rest}/upload",
        "//{other_host}/upload",
        "{base}@{other_host}/upload",
        "{base}.example/upload",
        "https://joe:x@{other_host}/upload",
        "-K{folder}/evil",
        "file://{folder}/evil",
        "uploads/1",
        "",
        "/upload -K{folder}/evil",
    ],
)
def test_the_password_goes_nowhere_else(
    registry: Registry, thieves: Mapping[str, Registry], host: RegistryHost, location: str
) -> None:
    """A location without TLS, another host, and a name that only looks like the registry get no request."""
    plain, other = thieves["plain"], thieves["other"]
    words = {"base": registry.base, "plain": plain.base, "other": other.base, "folder": str(host.folder)}
    words |= {"plain_rest": plain.base.removeprefix("http"), "other_host": name_of(other)}
    begin(registry, host, location.format(**words))
    assert (plain.seen, other.seen) == ([], [])
    assert registry.seen[2:] == []


@pytest.mark.parametrize("path", ["/v2/", "/v2/dws/manifests/1"])
def test_no_redirect_takes_the_password_along(
    registry: Registry, thieves: Mapping[str, Registry], host: RegistryHost, path: str
) -> None:
    """A redirect is not followed: no other host gets a request, and the place is named."""
    registry.answers[path] = (307, "text/html", b"", (("Location", f"{thieves['other'].base}/elsewhere"),))
    text = json.dumps(host.check(name_of(registry))) + host.state(name_of(registry))
    assert f"does not answer as a registry: HTTP 307 to {thieves['other'].base}/elsewhere" in text
    assert thieves["other"].seen == []


@pytest.mark.parametrize(
    ("ending", "kept"),
    [(b"", b""), (b"\n", b""), (b"\n\n\n", b""), (b"\r\n", b"\r"), (b" \n", b" "), (b"\xff\n", b"\xff")],
)
def test_a_credential_is_read_as_a_shell_reads_it(
    registry: Registry, host: RegistryHost, ending: bytes, kept: bytes
) -> None:
    """CSM's scripts read it with $(...), which drops newlines at its end and nothing else; podman gets the same."""
    host.username, host.password = b"admin\n", b"horse" + ending
    pair = base64.b64encode(b"admin:horse" + kept).decode()
    registry.ways, registry.good = ('BASIC realm="Sonatype Nexus Repository Manager"',), frozenset({f"Basic {pair}"})
    assert host.check(name_of(registry)) == {"tls": "verified"}
    done = host.run(name_of(registry) + "/repository/docker", "ask_registry authfile")
    assert json.loads(done.stdout) == {"auths": {name_of(registry): {"auth": pair}}}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "null",
        "[]",
        '{"data": null}',
        '{"data": {"username": "YQ=="}}',
        '{"data": {"username": 1, "password": "YQ=="}}',
        "<html>",
        '{"data": {"username": "YQ==", "password": "%%%"}}',
        '{"data": {"username": "\\u00fc", "password": "YQ=="}}',
    ],
)
def test_a_secret_without_a_credential_is_a_finding(registry: Registry, host: RegistryHost, secret: str) -> None:
    """A Secret without a usable credential is a finding, and the registry is not asked."""
    host.secret = secret or " "
    assert host.check(name_of(registry)) == {
        "tls": "verified",
        "problem": "secret",
        "text": "it lacks a readable username and password",
    }
    assert registry.seen == []


# --- tokens


@pytest.mark.parametrize(
    "way",
    [
        'Bearer realm="{base}/tokens?a=b",service="regi stry",scope="repository:dws:pull,push other:x:*"',
        "bearer Realm={base}/tokens, service=registry",
        'Bearer realm="{base}/tokens",service="a \\"quoted\\" name",error="insufficient_scope"',
    ],
)
def test_a_token_is_asked_for_at_the_registry(registry: Registry, host: RegistryHost, way: str) -> None:
    """The registry's own host gets the password, at the place that it names for tokens; requests then have the token."""
    registry.ways, registry.good = (way.format(base=registry.base),), frozenset({BEARER})
    registry.answers["/tokens"] = TOKEN
    assert host.check(name_of(registry)) == {"tls": "verified"}
    assert {authorization for _, path, authorization in registry.seen if not path.startswith("/tokens")} == {"", BEARER}
    assert {authorization for _, path, authorization in registry.seen if path.startswith("/tokens")} == {BASIC}
    if "scope=" in way and "insufficient" not in way:
        asked = next(path for _, path, _ in registry.seen if path.startswith("/tokens"))
        assert asked == "/tokens?a=b&service=regi+stry&scope=repository%3Adws%3Apull%2Cpush&scope=other%3Ax%3A%2A"
    assert host.state(name_of(registry)) == "absent"


def test_basic_is_taken_where_the_registry_offers_both(registry: Registry, host: RegistryHost) -> None:
    """If the registry offers Basic and Bearer, Basic is used, and no issuer of tokens gets the password."""
    registry.ways, registry.good = (f'Bearer realm="{registry.base}/tokens", Basic realm="x"',), frozenset({BASIC})
    assert host.check(name_of(registry)) == {"tls": "verified"}
    assert "/tokens" not in [path for _, path, _ in registry.seen]


@pytest.mark.parametrize(
    "realm",
    [
        "{other}/tokens",
        "{plain}/tokens",
        "http://{own}/tokens",
        "https://{own}@{other_host}/tokens",
        "//{other_host}/",
        "file:///etc",
        "https://x:y@{own}/tokens",
        "https://{own}.example/tokens",
        "",
        "https://[::1/",
        "https://{own_host}:notaport/",
    ],
)
def test_a_token_from_elsewhere_is_refused(
    registry: Registry, thieves: Mapping[str, Registry], host: RegistryHost, realm: str
) -> None:
    """A realm on another host, without TLS, or with a name in front gets no request, and the finding says which it is."""
    words = {"other": thieves["other"].base, "plain": thieves["plain"].base, "own": name_of(registry)}
    words |= {"other_host": name_of(thieves["other"]), "own_host": "127.0.0.1"}
    registry.ways = (f'Bearer realm="{realm.format(**words)}",service="x"',)
    told = host.check(name_of(registry))
    assert told["problem"] == "token", told
    assert (thieves["other"].seen, thieves["plain"].seen) == ([], [])
    assert {authorization for _, _, authorization in registry.seen} == {""}
    (finding,) = endpoints.REGISTRY.judge(StepContext(load(DEFAULT), Facts(), "ncn-m001"), {"tls": "", **told})
    assert (finding.name, "registry.token_hosts" in finding.fix) == ("registry-token", True)


def test_a_token_from_a_host_that_the_site_file_names(
    registry: Registry, thieves: Mapping[str, Registry], host: RegistryHost
) -> None:
    """registry.token_hosts names it with its port; plain http is refused there too."""
    issuer, plain = thieves["other"], thieves["plain"]
    issuer.answers["/tokens"] = TOKEN
    registry.good = frozenset({BEARER})
    for place, problem in ((issuer.base, ""), (plain.base, "token")):
        registry.ways = (f'Bearer realm="{place}/tokens"',)
        told = host.check(name_of(registry), f"{name_of(issuer)} {name_of(plain)}")
        assert told.get("problem", "") == problem, told
    assert [authorization for _, _, authorization in issuer.seen] == [BASIC]
    assert plain.seen == []


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [(401, b"{}", "credential"), (403, b"", "credential"), (500, b"oops", "unreachable"), (200, b"null", "unreachable")]
    + [
        (200, body, "unreachable")
        for body in (b"", b"[]", b'""', b"<html>", b'{"token": null}', b'{"token": "a\\r\\nb: c"}', b"{")
    ],
)
def test_an_issuer_without_a_token(
    registry: Registry, host: RegistryHost, status: int, body: bytes, problem: str
) -> None:
    """It rejects the password, or does not answer with a token: each is said, and no header is forged."""
    registry.ways = (f'Bearer realm="{registry.base}/tokens"',)
    registry.answers["/tokens"] = (status, "application/json", body, ())
    told = host.check(name_of(registry))
    assert (told["problem"], "issues its tokens" in told["text"]) == (problem, True)
    assert PASSWORD not in json.dumps(told)


# --- TLS


INSECURE = {"Insecure": True, "Blocked": False, "Mirrors": None}


@pytest.mark.parametrize(
    ("prefix", "tls_is"),
    [
        ("", "refused"),
        ("{name}", "unverified"),
        ("{name}/dws", "unverified"),
        ("{name}/other", "refused"),
        ("127.0.0.1", "unverified"),
        ("127.0.0", "refused"),
        ("*.0.0.1", "unverified"),
        ("*.example.com", "refused"),
    ],
)
def test_tls_is_not_verified_where_podman_would_not(
    registry: Registry, host: RegistryHost, prefix: str, tls_is: str
) -> None:
    """registries.conf's entries count as podman has them, by prefix; else a certificate of nobody's CA gets no password."""
    host.trusts, name = None, name_of(registry)
    host.entries = {prefix.format(name=name): INSECURE} if prefix else {}
    told = host.check(name)
    if tls_is == "refused":
        assert (told["tls"], told["problem"]) == ("verified", "unreachable")
        assert "its certificate is not trusted" in told["text"]
        site = load(DEFAULT)
        assert "/etc/containers/certs.d/registry.local/ca.crt on the master" in images.registry_fix(site, told["cause"])
        assert "certs.d" not in images.registry_fix(site, "")
        assert registry.seen == []
    else:
        assert told == {"tls": "unverified"}
        done = host.run(name, "ask_registry writable dws")
        assert (done.returncode, done.stdout) == (0, f"{name}: TLS is not verified, as registries.conf says\n")


def test_the_longest_prefix_decides(registry: Registry, host: RegistryHost) -> None:
    """As podman does: a longer prefix without `insecure` makes TLS verified again, and one that blocks the registry is said."""
    host.trusts, name = None, name_of(registry)
    host.entries = {"127.0.0.1": INSECURE, f"{name}/dws": {"Insecure": False}}
    assert host.check(name)["problem"] == "unreachable"
    host.entries = {"127.0.0.1": INSECURE, name: {"Blocked": True}}
    assert "blocks it" in host.check(name)["text"]
    assert registry.seen == []


@pytest.mark.parametrize("insecure", [False, True])
def test_no_password_goes_over_http_unless_registries_conf_says_so(host: RegistryHost, insecure: bool) -> None:
    """A registry without TLS is refused; podman's `insecure` allows it, and the preflight says so."""
    with serving(Registry()) as plain:
        host.entries = {name_of(plain): INSECURE} if insecure else {}
        told = host.check(name_of(plain))
        assert told["tls"] == ("plain" if insecure else "verified")
        assert ("problem" in told) is not insecure
        assert [authorization for _, _, authorization in plain.seen] == (["", BASIC] if insecure else [])
    note = endpoints.REGISTRY.note
    assert note
    text = note(StepContext(load(DEFAULT), Facts(), "ncn-m001"), told)
    assert text == (
        "registry.local: the password and images are sent without TLS (http), as registries.conf says" * insecure
    )


@pytest.mark.parametrize("more", [{}, {"README": "no certificate"}, {"a.crt": "no certificate"}])
def test_a_ca_in_certs_d_is_trusted(
    registry: Registry, host: RegistryHost, tls: tuple[ssl.SSLContext, Path], more: Mapping[str, str]
) -> None:
    """certs.d/HOST:PORT holds for the tool's questions, as for podman; other files there do not matter."""
    host.trusts = None
    folder = host.folder / ".config/containers/certs.d" / name_of(registry)
    folder.mkdir(parents=True)
    for file, text in more.items():
        (folder / file).write_text(text)
    assert host.check(name_of(registry))["problem"] == "unreachable"
    (folder / "ca.crt").write_bytes(tls[1].read_bytes())
    assert host.check(name_of(registry)) == {"tls": "verified"}


def test_a_podman_that_cannot_read_its_settings_is_a_finding(registry: Registry, host: RegistryHost) -> None:
    """It could not push later: its own words are shown, and the registry is not asked."""
    host.podman = "echo 'Error: getting registries: loading registries.conf: toml: line 2' >&2; exit 125"
    told = host.check(name_of(registry))
    assert told["problem"] == "podman"
    assert registry.seen == []
    (finding,) = endpoints.REGISTRY.judge(StepContext(load(DEFAULT), Facts(), "ncn-m001"), told)
    assert (finding.name, "toml: line 2" in finding.text) == ("podman-broken", True)


def test_podman_writes_nothing_where_it_says_how_it_is_configured(registry: Registry, host: RegistryHost) -> None:
    """A plan changes no file: podman gets its storage and its locks in memory that ends with it, and nobody else sees."""
    mark = f"/dev/shm/dws-on-csm-test-{os.getpid()}"
    host.podman = f"""echo "$*" >{host.folder}/arguments; : >{mark}; echo '{{"registries": {{}}}}'"""
    assert host.check(name_of(registry)) == {"tls": "verified"}
    assert not Path(mark).exists()
    words = (host.folder / "arguments").read_text().split()
    places = {words[words.index(option) + 1].rpartition("/")[0] for option in ("--root", "--runroot", "--tmpdir")}
    assert places == {"/dev/shm"}


@pytest.mark.parametrize("path", ["dws_on_csm", "templates"])
def test_every_curl_speaks_tls_alone_and_takes_no_option_from_outside(path: str) -> None:
    """Each call says which protocol it may speak, and gives the address behind --url or --. Examples of what others typed,
    for what they give away, are none."""
    root = Path(render.TEMPLATES).parent / path
    texts = {file: file.read_text().replace("\\\n", " ") for file in root.rglob("*") if file.suffix in (".py", ".sh")}
    calls = [
        line for text in texts.values() for line in text.splitlines() if "curl --" in line and "SECRET" not in line
    ]
    for line in calls:
        assert "--proto =https" in line and (" --url " in line or " -- " in line), line


def test_podman_pushes_with_the_tls_of_its_settings() -> None:
    """No option of the push says otherwise than registries.conf, which the questions follow, too."""
    (push,) = [line for line in render.read("master/images_push.sh").splitlines() if "podman push" in line]
    assert "tls-verify" not in push and "--authfile /dev/stdin" in push
