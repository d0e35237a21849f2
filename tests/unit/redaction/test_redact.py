"""Secrets are redacted in every form, and text that only looks like one stays."""

import base64
import contextlib
import hashlib
import html
import json
import re
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest

from dws_on_csm.commands.doctor import support_archive
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.secret import REDACTED, Secret
from dws_on_csm.redaction import redact, secret_forms
from dws_on_csm.redaction.known_secrets import Known
from tests.unit import leaky_output
from tests.unit.conftest import LocalHost
from tests.unit.growth import assert_no_square
from tests.unit.hostile import Host, hostile_host, needs_root

__all__ = ["hostile_host"]

DASHES, KIND = "-" * 5, "PRIVATE" + " KEY"  # no file of the project has what looks like a key
KEY = f"{DASHES}BEGIN RSA {KIND}{DASHES}\nMIIEpAIBAAKCAQEA\nqqqq\n{DASHES}END RSA {KIND}{DASHES}\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIC/zCCAeegAwIBAgIB\n-----END CERTIFICATE-----\n"
SECRET = "s3cr3t-Wort/42=="
APPLIED = json.dumps(
    {"spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "A", "value": "b"}]}]}},
    separators=(",", ":"),
)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SAID = [
    f"password: {SECRET}",
    f'"password": "{SECRET}"',
    f"client-key-data: {SECRET}",
    f"    token: {SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"authorization='Basic {SECRET}'",
    f"AccountingStoragePass={SECRET}",
    f"JobCompPass = {SECRET}",
    f"JobCompPass*={SECRET}",
    f"StoragePass/={SECRET} # of the database",
    f"Job\\CompPass={SECRET}",
    f"AccountingStoragePass=\\\n{SECRET}",
    f"AccountingStoragePass= \\ # goes on\n  {SECRET}\n",
    f"AccountingStoragePass=s3\\\n{SECRET}",
    f"+ AccountingStoragePass=\\\n+ {SECRET}",
    f"passwords:\n- {SECRET}\n- {SECRET}\n",
    f"a:\n  passwords:\n  - {SECRET}\n  - {SECRET}\n",
    f"pass_phrase={SECRET}",
    f"ldap_default_authtok = {SECRET}",
    f"NEXUS_PASSWORD={SECRET}",
    f"export ADMIN_TOKEN='{SECRET}'",
    "https://admin:s3cr3t-Wort@registry.local/v2/",
    f"--password={SECRET} --verbose",
    f"--creds {SECRET}",
    json.dumps({"auths": {"registry.local": {"auth": SECRET}}}),
    json.dumps({"said": json.dumps({"password": SECRET})}),
    json.dumps({"a": json.dumps({"b": json.dumps({"password": SECRET})})}),
    KEY.replace("qqqq", SECRET),
    json.dumps(KEY.replace("qqqq", SECRET)),
    f"{DASHES}BEGIN {KIND}{DASHES}\n{SECRET}",
    # YAML: block scalars, folded ones, values on the next line, of several lines, in lists
    f"password: |\n  {SECRET}\n",
    f"password: >-\n  one\n\n  {SECRET}\nnext: 1",
    f"  - token: |2\n      {SECRET}\n",
    f"password:\n  {SECRET}\n",
    f"password: one\n  {SECRET}\n",
    f'password: "one\n  {SECRET}"\n',
    f"args:\n- --password\n- {SECRET}\n",
    f"password: it's a {SECRET}",
    f"password: 'it''s a {SECRET}'",
    json.dumps({"config.yaml": f"user: joe\npassword: |\n  {SECRET}\nport: 3\n"}),
    json.dumps({"config.yaml": f"user: joe\npassword: a b {SECRET}\nport: 3\n"}),
    json.dumps({"config.yaml": f"password: |\n  {SECRET}\nport: 3\n"}),
    json.dumps({"config.yaml": f"password: a b {SECRET}\nport: 3\n"}),
    f"{{user: joe, password: {SECRET}}}",
    f"+ password: {SECRET}",
    # values with what ends others
    f"password: a,{SECRET}",
    f"password={{{SECRET}",
    f"password: a{{b}}{SECRET}",
    f"password=/{SECRET}",
    f"password=[{SECRET}]",
    f"password: a;{SECRET}",
    f'password: a"b {SECRET}',
    f"password=a'b{SECRET}",
    f"login failed with password=a,b:{SECRET}, and ended",
    json.dumps({"password": f'a"b\\{SECRET}'}),
    json.dumps({"password": [SECRET]}),
    f"password => {SECRET}",
    f"password := {SECRET}",
    f"<password>a {SECRET}</password>",
    # a command line, as words and as a list
    f"--password {SECRET}",
    f"-token={SECRET}",
    f"---token={SECRET}",
    json.dumps(["login", "--password", SECRET]),
    str(["login", "--password", SECRET]),
    json.dumps(json.dumps(["login", "--password", SECRET])),
    f"'--password' '{SECRET}'",
    f"curl -u admin:{SECRET} https://registry.local",
    f"curl --user admin:{SECRET} https://registry.local",
    f"sshpass -p {SECRET} ssh host",
    # URLs
    f"https://{SECRET.replace('/', '-')}@github.com/a/b.git",
    f"https://x-access-token:{SECRET}@github.com/a/b.git",
    f"https://joe:a@{SECRET}@host/path",
    f"https://joe:a@/{SECRET}@host/path",
    f"ssh://joe:{SECRET}@host/path",
    f"https://host/path?access_token={SECRET}&x=1",
    "http:\\/\\/joe:s3cr3t@host\\/",
    "https://proxy/?to=https://joe:s3cr3t@host/",
    "https://proxy/https://s3cr3t@host/",
    "http://a:1,https://joe:s3cr3t@host",
    # headers
    f"Cookie: a=b; NXSESSIONID={SECRET}",
    f"< Set-Cookie: NXSESSIONID={SECRET}; Path=/",
    f"curl -H 'Cookie: a=b; c={SECRET}' https://host",
    f"X-Auth-Token: {SECRET}",
    f"Authorization: Negotiate {SECRET}",
    f"x-api-key: {SECRET}",
    json.dumps({"headers": f"Cookie: a=b; c={SECRET}"}),
    # names
    f"passphrase: a b {SECRET}",
    f"enter the passphrase: a b {SECRET}",
    *(f"{name}={SECRET}" for name in ("PGPASSWORD", "DBPASS", "dbPassword", "password1", "my.secret", "A_ACCESS_KEY")),
    *(
        f"{name}: {SECRET}"
        for name in ("privateKey", "api-key", "apikey", "jwt", "munge.key", "_authToken", "id_token")
    ),
    *(f'{{"{name}":"{SECRET}"}}' for name in ("client_secret", "refreshToken", "auth", "tls.key", "sessionId")),
    "x" * 150 + f"_password={SECRET}",
    # a variable's name beside its value
    f"- name: DB_PASSWORD\n  value: {SECRET}\n",
    f"- name: DB_PASSWORD\n  value: |\n    {SECRET}\n",
    f"- value: {SECRET.replace('=', '')}\n  name: DB_PASSWORD\n",
    f"<name>db.password</name><value>{SECRET}</value>",
    f'<property name="password" value="{SECRET}"/>',
    f"annotations:\n  kubectl.kubernetes.io/last-applied-configuration: |\n    {APPLIED}\n",
    f"annotations:\n  kubectl.kubernetes.io/last-applied-configuration: '{APPLIED}'\n",
    json.dumps({"kubectl.kubernetes.io/last-applied-configuration": APPLIED}),
    json.dumps(json.dumps({"kubectl.kubernetes.io/last-applied-configuration": APPLIED})),
    f"I1128 request.go:1154] Response Body: {APPLIED} [truncated 1024 chars]",
    f"Response Body: {APPLIED[:-9]} [truncated 1024 chars]",
    # encoded
    quote(f"password={SECRET}&x=1", safe=""),
    f"POST /login?next=1&{quote(f'password={SECRET}', safe='')}",
    quote(quote(f"password={SECRET}", safe=""), safe=""),
    quote(json.dumps({"password": SECRET}), safe="").lower(),
    html.escape(json.dumps({"password": SECRET})),
    # names, and what may stand between them and their value
    f"NEXUS_PW={SECRET}",
    f"pw: {SECRET}",
    f"Password (admin): {SECRET}",
    f"Password for admin: {SECRET}",
    f"password for 'https://joe@host': {SECRET}",
    f"DbdPass={SECRET}",
    f"AccountingStoragePass   = {SECRET}",
]


@pytest.mark.parametrize("said", SAID)
def test_a_secret_is_redacted(said: str) -> None:
    """In YAML, JSON, JSON inside JSON, settings, a command line, a URL, headers, or as a truncated key."""
    assert "s3cr3t" in said
    shown = redact.text(said)
    assert "s3cr3t" not in shown
    assert REDACTED in shown
    assert redact.text(shown) == shown, "a redacted text is redacted again"


def texts(some: Iterable[str]) -> list[str]:
    return [one.replace("{kind}", KIND) for one in some]


GOES = [(form, said) for form in secret_forms.FORMS for said in texts(form.redacts)]


@pytest.mark.parametrize(("form", "said"), GOES, ids=[f"{form.name}: {said}" for form, said in GOES])
def test_a_form_of_the_table_is_redacted(form: secret_forms.Form, said: str) -> None:
    """By its own row, so each row is needed; also in a text of JSON inside JSON, which stays JSON."""
    assert "SECRET" in said
    one = secret_forms.redacted(said, (form,))
    assert "SECRET" not in one and REDACTED in one
    for shown in (redact.text(said), redact.text(f"before\n{said}\nbehind")):
        assert "SECRET" not in shown and redact.text(shown) == shown
    inner = json.dumps({"said": json.dumps({"said": said, "next": 1}), "next": 2})
    shown = redact.text(inner)
    found = json.loads(shown)
    assert "SECRET" not in shown and (found["next"], json.loads(found["said"])["next"]) == (2, 1)


STAYS = [said for form in secret_forms.FORMS for said in texts(form.keeps)]


@pytest.mark.parametrize("said", STAYS)
def test_what_only_looks_like_a_form_stays(said: str) -> None:
    """The readers of an archive need such text."""
    assert redact.text(said) == said


@pytest.mark.parametrize("said", leaky_output.LINES)
def test_what_programs_print_has_no_secret(said: str) -> None:
    """Real lines of podman, skopeo, git, kubectl, helm, ansible, cray, systemd, the kernel's audit log and Slurm."""
    assert any(spelled.lower() in said.lower() for spelled in leaky_output.SPELLED), (
        "the line has no secret for this test"
    )
    for shown in (redact.text(said), redact.text(json.dumps({"a": said})), redact.text(f"a\n{said}\nb")):
        assert not any(spelled.lower() in shown.lower() for spelled in leaky_output.SPELLED)
        assert redact.text(shown) == shown


@pytest.mark.parametrize("said", leaky_output.PLAIN)
def test_what_programs_print_of_secrets_stays(said: str) -> None:
    """These lines stay unchanged, alone, among others and in JSON."""
    assert redact.text(said) == said
    assert redact.text(json.dumps({"said": said})) == json.dumps({"said": said})
    assert redact.text(f"before\n{said}\nbehind\n") == f"before\n{said}\nbehind\n"


KEPT = [
    ("password: s3cr3t\nuser: joe\n", "\nuser: joe\n"),
    ("password: |\n  s3cr3t\nuser: joe\n", "\nuser: joe\n"),
    ('{"password":"s3cr3t","user":"joe"}', '"user":"joe"}'),
    ('{"password":13,"user":"s3cr3tary"}', '"user":"s3cr3tary"}'),
    (json.dumps({"a.yaml": "password: s3cr3t\nuser: joe\n"}), '\\nuser: joe\\n"}'),
    ("curl --password s3cr3t https://registry.local/v2/", " https://registry.local/v2/"),
    ("https://joe:s3cr3t@registry.local/v2/", "@registry.local/v2/"),
    ("login with password=s3cr3t, then failed", ", then failed"),
    (json.dumps(["--password", "s3cr3t", "--user", "joe"]), '"--user", "joe"]'),
    ("https://host/?token=s3cr3t&user=joe", "&user=joe"),
    ('msg="token=s3cr3t" user=joe', '" user=joe'),
    ("-H 'Cookie: a=s3cr3t' https://host", "' https://host"),
]


@pytest.mark.parametrize(("said", "rest"), KEPT)
def test_what_comes_behind_a_secret_stays(said: str, rest: str) -> None:
    """Only the value is replaced, where its end is clear."""
    shown = redact.text(said)
    assert shown.endswith(rest)
    assert REDACTED in shown and "s3cr3t" not in shown.removesuffix(rest)


@pytest.mark.parametrize("said", [coded(KEY), f'"client-data": "{coded(KEY)}"', coded(KEY)[:101]])
def test_a_key_in_base64_is_redacted(said: str) -> None:
    """An embedded private key is redacted, also a part of one."""
    assert coded(KEY)[24:60] not in redact.text(said)


@pytest.mark.parametrize("before", ["kubectl said: ", "x\\n", "jwt=", '"', "Bearer "])
def test_a_token_of_a_service_account_is_redacted(before: str) -> None:
    """A JSON web token has a form of its own, in any context."""
    token = ".".join(coded(part).rstrip("=") for part in ('{"alg":"RS256"}', '{"sub":"me"}', "signature"))
    assert token[4:] not in redact.text(f"{before}{token}, and ended")


@pytest.mark.parametrize(
    "said",
    [
        "AuthType=auth/munge",
        "SlurmctldLogFile=/var/log/slurm/slurmctld.log",
        '"secretName": "webhook-server-cert"',
        '{"name":"cert","secret":{"defaultMode":420}}',
        "volumes:\n- name: cert\n  secret:\n    defaultMode: 420\n",
        "  secret: {defaultMode: 420}",
        "the password was changed in Nexus",
        "Secret nexus/nexus-admin-credential: not found",
        "/etc/kubernetes/pki/ca.key: can't be read",
        "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token",
        "https://registry.local:443/v2/dws/manifests/0.0.20",
        "https://registry.local:443/v2/dws@sha256:0123",
        "ssh://git@github.com/a/b.git",
        "git@github.com:a/b.git",
        "docker run -u 1000:1000 image",
        "basic authentication is needed",
        "the bearer of that name",
        "passed: 12",
        "bypass: true",
        "PWD=/root/dws-on-csm",
        '"token": null',
        "imagePullSecrets: [{name: registry}]",
        "cookies are not used",
        "keys: 3",
        "key: value",
        "author: joe",
        "2026-11-23T20:48:06Z\tINFO\tcontrollers.Workflow\tReconciling Workflow",
        coded(CERTIFICATE),
        CERTIFICATE,
    ],
)
def test_harmless_text_stays(said: str) -> None:
    """Names of Secrets, paths, certificates and sentences stay: they help."""
    assert redact.text(said) == said


def test_a_secret_is_preferred_to_a_name_that_looks_like_one() -> None:
    """The value of `secret` may be a Secret's name or a secret: it is redacted."""
    assert redact.text("nexus.secret: nexus/nexus-admin-credential") == f"nexus.secret: {REDACTED}"
    wrong = 'hosts.yaml:109:11: registry.secret: takes the NAMESPACE/NAME of a Secret, not "5"'
    assert redact.text(wrong) == wrong, "the site file's own key names one"


HOSTILE = [
    *("a", "a.", "a-", "aA", "eyJ-", "eyJaaaaaaaaa.", "a://", "a.a://", "LS0tLS1CRUdJTi", DASHES, f"{DASHES}BEGIN "),
    *(
        "pass*=",
        "pass=\\\n",
        "+ pass\\",
        "passwords:\n- a\n",
        "htpasswd -b a ",
        "set token ",
        "root:a",
        "openssl enc -k",
    ),
    *("password", "passwordpassword_", "password=", "password: ", 'password="', "password='", "password=" + "'" * 3),
    *('password="\\', '\\"', "\\", "--a ", '"--token" ', "--token\n - ", "token:\n ", "token: |\n  ", "\\ntoken: "),
    *("[{", "x:y@", "-u a", "a://b:c/", "<token>", " ", "token: {", '"token": [', "?token=a&", "token: \\n"),
    *('"token":1,', f"{DASHES}BEGIN {KIND}{DASHES}", "basic ", "bearer a", 'token=\\"', 'Cookie: "', "token = ", "a\n"),
]


HOSTILE += [
    *(
        "login ",
        "login -p",
        "podman login ",
        "sshpass -p",
        "ipmitool ",
        "echo ",
        "echo a |",
        "$6$",
        "$6$a$",
        "//a:",
        "//a:b@",
    ),
    *(
        "password is ",
        "password was ",
        "machine a ",
        "login a password ",
        "<password",
        "<password a",
        '<a name="',
        "value: ",
    ),
    *(
        "value: a name: ",
        'value: "',
        "name: DB_PASSWORD ",
        "name: password\n",
        "%3D",
        "%25",
        "a%",
        "&quot;",
        "&",
        "&amp;a",
    ),
    *(
        "QUFB",
        "QUFBQUFB\n",
        "QUFB" * 15 + "\n",
        "QUFB" * 15 + "\\n",
        "a_",
        "AAAA-",
        "MUNGE:",
        "password (",
        "password for ",
    ),
    *(
        "password for '",
        "AuthInfo=",
        "-u a:",
        "-U a%",
        "?sig=",
        "{",
        "[",
        '{"a":',
        '["',
        '{"',
        '["a",',
        "[{",
        "K10",
        "ghp_",
    ),
]


HOSTILE += [
    *('"kind":"Secret",', '"kind":"Secret","data":{', 'stringData":{', "data:\n  a: b\n", "data:\n", "kind: Secret\n"),
    *(
        "5c",
        "706173",
        '" a1="',
        "_proxy=a:",
        "_proxy=a:b",
        "a:b@tcp(",
        "a:b",
        "rootpw a",
        "vault login ",
        '{"a":[',
        'x {"a":1} ',
    ),
    *(
        "credentials ",
        "creds for ",
        "with password ",
        "--from-literal=a=",
        "chpasswd <<<",
        "chpasswd ",
        "password  a\n",
    ),
    *("password '", "  password  ", "data:\n  stringData:\n"),
]


BEHIND = [
    (before, "\\") for before in ("token=", "\\ntoken: ", 'token="', "token: ", "token=\\'", '"token":', "--token ")
]
BEHIND += [("token=", end) for end in ('"', "'", '\\"', "{", "[", ",", "&", "\\n", "a")]
BEHIND += [("token: ", end) for end in (" ", "\n", "\n ", "\\n", "{ ", "|\n  ", "[ ")]
BEHIND += [
    ("Cookie: ", "a"),
    ("<token>", "a"),
    ("-u,", "-u,"),
    ("https://", "a:@"),
    ("https://", "a://"),
    ("https://", "b:c@d://"),
    ("basic ", "a"),
    ("--token", " "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "piece"), [*(("", one) for one in HOSTILE), *BEHIND])
def test_the_time_grows_with_the_length_and_no_faster(before: str, piece: str) -> None:
    """The time for a user's #DW line is linear in its length, for any repeated text."""
    assert_no_square(lambda length: redact.text(before + (piece * length)[:length] + "!"), 3_000)


def test_a_known_secret_is_found_by_its_value() -> None:
    """The site's own passwords are redacted without a name before them, in every form."""
    word = 'kor<rekt"Pferd"/+&'
    known = Known([Secret(word.encode())])
    forms = [word, json.dumps(word)[1:-1], quote(word, safe=""), quote_plus(word), html.escape(word), coded(word)]
    forms += [coded(f"{before}:{word}:after") for before in ("admin", "root", "me")]
    for form in forms:
        shown = redact.text(f"it said {form} there", known)
        assert REDACTED in shown and "Pferd" not in shown
        assert shown.startswith("it said ") and shown.endswith(" there")
        left = shown.removeprefix("it said ").removesuffix(" there").replace(REDACTED, "")
        with contextlib.suppress(ValueError):
            assert b"rekt" not in base64.b64decode(left + "=" * (-len(left) % 4))


WORD = "kor<rekt\\Pf'erd \"/+&é%,"


def escaped(word: str, times: int) -> str:
    for _ in range(times):
        word = json.dumps(word)[1:-1]
    return word


SPELLED = {
    "as it is": WORD,
    **{f"JSON in JSON, {times} deep": escaped(WORD, times) for times in (1, 2, 3)},
    "JSON of Go": json.dumps(WORD)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
    "JSON with / escaped": json.dumps(WORD, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    "JSON in JSON of Go": escaped(json.dumps(WORD)[1:-1].replace("<", "\\u003C"), 1),
    "percent": quote(WORD, safe=""),
    "percent in lower case": re.sub("%..", lambda found: found[0].lower(), quote(WORD, safe="")),
    "percent, some of it": quote(WORD, safe="/+,'&"),
    "percent twice": quote(quote(WORD, safe=""), safe=""),
    "a form": quote_plus(WORD),
    "HTML": html.escape(WORD),
    "HTML by numbers": "".join(one if one.isalnum() and one.isascii() else f"&#{ord(one)};" for one in WORD),
    "HTML in HTML": html.escape(html.escape(WORD)),
    "bytes of Python": str(WORD.encode())[2:-1],
    "a string of C": "".join(chr(one) if chr(one).isalnum() and one < 128 else f"\\{one:03o}" for one in WORD.encode()),
    "a unit of systemd": "".join(
        chr(one) if chr(one).isalnum() and one < 128 else f"\\x{one:02x}" for one in WORD.encode()
    ),
    "a word of a shell": shlex.quote(WORD)[1:-1],
    "hexadecimal": WORD.encode().hex(),
    "hexadecimal in upper case": WORD.encode().hex().upper(),
    "hexadecimal of xxd": WORD.encode().hex(" ", 2),
    "hexadecimal of openssl": WORD.encode().hex(":"),
    "bytes of Go": " ".join(map(str, WORD.encode())),
    "bytes of journalctl --output=json": ", ".join(map(str, WORD.encode())),
    "base64": coded(WORD),
    "base64 of base64": coded(coded(WORD)),
    "base64 in lines": textwrap.fill(coded("x" * 50 + WORD * 3), 76),
    "base64 in lines of YAML": textwrap.fill(coded("x" * 50 + WORD * 3), 64).replace("\n", "\n    "),
    "base64 in lines of JSON": textwrap.fill(coded("x" * 50 + WORD * 3), 64).replace("\n", "\\n"),
    **{f"base64 {shift} in": coded("x" * shift + WORD + "y") for shift in (1, 2, 3)},
    **{
        f"base64url {shift} in": base64.urlsafe_b64encode(f"{'x' * shift}{WORD}?".encode()).decode()
        for shift in (1, 2, 3)
    },
    **{
        f"base64 {inner} in, of that {outer} in": coded("z" * outer + coded("x" * inner + WORD + "y") + "z")
        for inner in (0, 1, 2)
        for outer in (0, 1, 2)
    },
    "base64 with a word before it": "digest" + coded(WORD),
    "base64 in a URL": quote(coded(WORD), safe=""),
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED.keys())
def test_a_known_password_is_found_in_every_spelling(spelled: str) -> None:
    """Escaped, encoded and as numbers, as a site's programs write it; no part of it stays."""
    known = Known([Secret(WORD.encode())])
    for before, behind in (("it said ", " there"), ('{"said": "', '"}'), ("x='", "'"), ("[", "]")):
        shown = redact.text(f"{before}{spelled}{behind}", known)
        assert REDACTED in shown
        left = shown.replace(REDACTED, "")
        assert not any(one in left for one in ("kor", "rekt", "Pf", "erd", spelled[-20:-8]))


def test_a_known_password_is_found_in_a_known_time() -> None:
    """Repeated beginnings of its spellings take linear time, too."""
    known = Known([Secret(b"\\\\\"\"  aaa''b"), Secret(b"%%%%%%%%")])
    for piece in ("\\", '"', " ", "'", "%", "%25", "a", "&#92;", "\\u005c", "XFxc", "5c", "92, ", "JSUl", "\n"):
        assert_no_square(lambda length: known.redacted((piece * length)[:length] + "!"), 5_000)  # noqa: B023 - called at once


def test_a_piece_of_a_known_key_is_found() -> None:
    """A key never leaves its host: a piece of it in a text is recognized by the piece's checksum."""
    key = coded("".join(chr(33 + number % 90) for number in range(600)))
    pieces = [hashlib.sha256(key[at : at + 40].encode()).hexdigest() for at in range(0, len(key) - 39, 40)]
    known = Known(pieces=pieces)
    assert redact.text(f"somebody pasted {key[13:113]} here", known) == f"somebody pasted {REDACTED} here"
    other = coded(CERTIFICATE)
    assert redact.text(f"somebody pasted {other} here", known) == f"somebody pasted {other} here"


def test_a_password_of_two_letters_redacts_nothing() -> None:
    """Such a short password would occur everywhere."""
    assert redact.text("all is well", Known([Secret(b"al"), Secret(b"")])) == "all is well"


def test_objects_lose_secrets_by_key_by_variable_and_by_argument() -> None:
    """Variables of a container are named next to their values, arguments before them; a Secret's name stays."""
    pod = {
        "spec": {
            "containers": [
                {"env": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "LEVEL", "value": "debug"}]},
            ],
            "volumes": [{"name": "cert", "secret": {"secretName": "webhook-server-cert"}}],
        },
        "data": {"password": SECRET, "said": f"token: {SECRET}", "tokens": 3, "passwords": [SECRET], "pass": 12345},
        "args": ["--password", SECRET, "--verbose"],
    }
    seen = redact.data(pod)
    assert "s3cr3t" not in json.dumps(seen)
    assert seen["spec"]["containers"][0]["env"][1] == {"name": "LEVEL", "value": "debug"}
    assert seen["args"] == ["--password", REDACTED, "--verbose"]
    assert (seen["data"]["tokens"], seen["data"]["pass"]) == (3, REDACTED)
    assert seen["spec"]["volumes"] == pod["spec"]["volumes"]  # type: ignore[index]


def test_redacting_twice_is_redacting_once() -> None:
    """Redacting a redacted text changes nothing."""
    once = redact.text(f"password: {SECRET}\nnext: line\ncurl --token={SECRET} --creds {SECRET} here")
    assert redact.text(once) == once


def test_checksums_of_key_pieces_are_computed_on_the_host(
    local_host: LocalHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host prints only checksums of its key. By them the archive finds the key, complete or in part, also decoded."""
    body = "\n".join(coded("".join(chr(33 + (line * 7 + at) % 90) for at in range(48))) for line in range(6))
    pem = f"{DASHES}BEGIN EC {KIND}{DASHES}\n{body}\n{DASHES}END EC {KIND}{DASHES}\n"
    (tmp_path / "kubeconfig").write_text(f"users:\n- user:\n    client-key-data: {coded(pem)}\n")
    monkeypatch.setattr("dws_on_csm.domain.names.KUBECONFIG", str(tmp_path / "kubeconfig"))
    cluster = SimpleNamespace(
        get=lambda path: {"data": {"username": coded("admin"), "password": coded("correct-horse")}}
    )
    reach = SimpleNamespace(session=lambda host: local_host, cluster=lambda: cluster)
    reading = SimpleNamespace(run=SimpleNamespace(site=load(DEFAULT), reach=reach))
    known, unread = support_archive.known_secrets(reading)  # type: ignore[arg-type]
    assert unread == ""
    for part in (coded(pem)[90:200], body.splitlines()[3], "correct-horse", coded("admin:correct-horse")):
        assert part not in redact.text(f"here: {part}", known)
    assert redact.text("admin", known) == "admin"
    said = local_host.run(pieces(tmp_path / "kubeconfig"), deadline=30.0).out.decode()
    assert len(said.splitlines()) > 10 and not any(coded(pem)[at : at + 8] in said for at in range(0, 300, 8))


def pieces(file: Path) -> str:
    return render.script("lib/safe_file.sh", "controller/key_pieces.sh", file=str(file))


@needs_root
@pytest.mark.parametrize("trap", ["link", "fifo", "second name"])
def test_a_key_is_summed_where_it_is_slurm_users_alone(hostile_host: Host, trap: str) -> None:
    """A trap of SlurmUser in its kubeconfig's place makes root neither read another file nor wait; the error names the file."""
    file, kubeconfig = hostile_host.etc / "file", f"client-key-data: {coded('k' * 90)}\n"
    hostile_host.owned(file, kubeconfig)
    assert len(hostile_host.run(pieces(file), "sh").stdout.splitlines()) >= 3
    hostile_host.secret.write_text(kubeconfig)
    hostile_host.traps(file, trap)
    answer = hostile_host.run(pieces(file), "sh")
    assert (answer.stdout, answer.returncode) == ("", 1) and str(file) in answer.stderr


def test_the_archive_says_which_secrets_could_not_be_searched_for() -> None:
    """Where the password or a key can't be read, the archive says so, and is still created."""

    def gone(host: str = "") -> None:
        raise Unreachable(host or "ncn-m001", "no way there", "")

    reading = SimpleNamespace(
        run=SimpleNamespace(site=load(DEFAULT), reach=SimpleNamespace(session=gone, cluster=gone))
    )
    _, unread = support_archive.known_secrets(reading)  # type: ignore[arg-type]
    assert "nexus/nexus-admin-credential could not be read" in unread and "key on slurmctl could not be read" in unread


@pytest.mark.parametrize(
    "value", ["a", 5, 1.5, True, None, "", [], ["a"], ["a]b", "c"], [5, 6], [{"a": 1}], {"a": "b"}]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_stays_json(value: object, indent: int | None) -> None:
    """Redacted JSON stays valid JSON, also inside a text of JSON."""
    inner = json.dumps({"token": value, "next": 1}, indent=indent)
    for known in (redact.text, lambda said: redact.text(json.dumps(redact.data(json.loads(said)), indent=indent))):
        found = json.loads(known(json.dumps({"text": inner, "secret": value, "next": 2}, indent=indent)))
        assert (found["next"], json.loads(found["text"])["next"]) == (2, 1)
