"""Secrets that have a form of their own, or certain words before them: a table, each row with examples for and against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dws_on_csm.model.secret import REDACTED
from dws_on_csm.redaction import named_values
from dws_on_csm.redaction.secret_names import names_secret

Instead = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Form:
    """A form of secrets.

    pattern  finds them; for linear time each repetition is bounded, or can't be tried from every character
    redacts  texts with one, written as SECRET
    keeps    texts that look alike and have none
    instead  its replacement; None: the pattern ends before the secret, and the next word is replaced
    """

    name: str
    pattern: re.Pattern[str]
    redacts: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    instead: Instead | None = REDACTED


def redacted(text: str, forms: Sequence[Form] | None = None) -> str:
    """The text with the secrets of these rows replaced, of the whole table by default."""
    for form in FORMS if forms is None else forms:
        text = _behind(text, form.pattern) if form.instead is None else form.pattern.sub(form.instead, text)
    return text


def _behind(text: str, pattern: re.Pattern[str]) -> str:
    """The text with the word behind each match of the pattern replaced."""
    parts, last = [], 0
    for match in pattern.finditer(text):
        if match.end() < last:
            continue
        end, instead = named_values.argument(text, match.end())
        if end > match.end():
            parts.append(text[last : match.end()] + instead)
            last = end
    return "".join(parts) + text[last:]


# --- URLs


def _url(match: re.Match[str]) -> str:
    """A URL without user and password, also of URLs inside it; a URL of ssh keeps a user without a password."""
    parts = re.split(r"(:(?:\\?/){2})", match[0])
    clean = parts[:1]
    for mark, part in zip(parts[1::2], parts[2::2], strict=True):
        # what stands before it ends with its scheme; all of it would be searched once for each URL in it
        ssh = clean[-1][-5:].lower().endswith(("ssh", "sftp", "rsync"))
        clean += [mark, _without_user(part, ssh)]
    return "".join(clean)


def _without_user(rest: str, ssh: bool) -> str:
    """The part behind "://", up to the next one."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, word = rest.partition(":")
    cut = authority.rfind("@")
    if colon and not re.match(r"[0-9]{1,5}(?:[/?#]|$)", word) and not re.search(r"[/?#@]", user):
        cut = rest.rfind("@")  # a password may have what ends a host's name, though it should not
    if cut < 0 or (ssh and ":" not in rest[:cut]):
        return rest
    return f"{REDACTED}{rest[cut:]}"


def _element(match: re.Match[str]) -> str:
    return f"{match[1]}{REDACTED}" if names_secret(match[2]) or names_secret(match[3] or "") else match[0]


def _before_its_name(match: re.Match[str]) -> str:
    return (
        f"{match[1]}{match['quote']}{REDACTED}{match['quote']}{match['rest']}"
        if names_secret(match["name"])
        else match[0]
    )


def _pair(quoted: str) -> str:
    return f"{quoted}{REDACTED}{quoted}:{quoted}{REDACTED}{quoted}"


_NEAR = 3000
"""Characters around an object's data in which its kind is searched."""


def _yaml(match: re.Match[str]) -> str:
    """The data of a Secret's manifest with its keys alone; other objects unchanged."""
    column = len(match["indent"]) + len(match["item"] or "")
    around = match.string[max(0, match.start() - _NEAR) : match.end() + _NEAR]
    kind = re.compile(rf"^(?: {{{column}}}|{' ' * max(0, column - 2)}- )kind: Secret[ \t]*$", re.MULTILINE)
    if "stringData" not in match[0].partition(":")[0] and not kind.search(around):
        return match[0]
    keys = re.compile(rf"^( {{{column + 1},{column + 8}}}[\w./-]{{1,253}}:)", re.MULTILINE)
    first = min((len(key[1]) - len(key[1].lstrip()) for key in keys.finditer(match["body"])), default=0)
    clean = [
        f"{key[1]} {REDACTED}" for key in keys.finditer(match["body"]) if len(key[1]) - len(key[1].lstrip()) == first
    ]
    end = "\n" if match[0].endswith("\n") else ""
    return match[0][: len(match[0]) - len(match["body"])] + "\n".join(clean) + end


_AFRESH = r"(?:(?<=\\[nrt])|(?<![\w.+-]))"
"""The start of a word, in JSON also after an escaped line end. Trying a word from its middle, too, would take time."""
_GONE = r"(?!\(redacted\))"
_NEXT = r"(?:\\{0,7}[\"'],?\s{1,40}(?:a[0-9]{1,4}=)?(?=\\{0,7}[\"'])|\\{0,7}[\"'],(?=\\{0,7}[\"'])|[ \t=]{0,9})"
"""Between an option and its argument, in a line, a list or the kernel's audit: `-p X`, `-pX`, `"-p", "X"`, `"-p" a2="X"`."""
_SAME = r"[^\n|;&]"
"""A character of the same command."""

FORMS = (
    Form(
        "private key",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,60}-----|\Z)", re.DOTALL
        ),
        (
            "-----BEGIN RSA {kind}-----\nSECRET\n-----END RSA {kind}-----\n",
            r"-----BEGIN {kind}-----\nSECRET\n-----END {kind}-----",
            r'{"key": "-----BEGIN OPENSSH {kind}-----\nSECRET\n-----END OPENSSH {kind}-----\n"}',
            "-----BEGIN EC {kind}-----\nSECRET",
        ),
        ("-----BEGIN CERTIFICATE-----\nMIIC/zCCAeegAwIBAgIB\n-----END CERTIFICATE-----\n",),
    ),
    Form(
        "JSON web token",
        re.compile(_AFRESH + r"(?:ey[JA]|ewo)[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+){0,3}"),
        ("got eyJhbGciOiJSUzI1.eyJzdWIiOiJtSECRET.c2lnbmF0dXJl, and ended",),
        ("eyJ.txt",),
    ),
    Form(
        "hash of a password",
        re.compile(
            r"(?<![\w$])(?:\\{0,3}\$){1,2}(?:1|2[abxy]?|5|6|7|y|gy|apr1|sha1|argon2(?:id?|d))(?:\\{0,3}\$){1,2}(?![\s\"'])"
            r"[^\s:\"',;]{8,}+"
        ),
        (
            "root:$6$salt$SECRETx0.abc/def:18000::",
            "root:$y$j9T$SECRETx$0abcdef:18000:",
            "$$6$$salt$$SECRETx0abc",
            r"rootpass \$6\$salt\$SECRETx0abc",
            "$argon2id$v=19$m=4096$SECRETx0abc",
        ),
        ("awk '{print $1}'", "$6 for it", "cut $1$2", 'echo "$1$suffix"'),
    ),
    Form(
        "token of a service",
        re.compile(
            r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_\w{16,}+|gl[a-z]{2,6}-[\w-]{16,}+|(?:AKIA|ASIA)[A-Z0-9]{16}\b"
            r"|xox[a-z]-[\w-]{10,}+|xapp-[\w-]{10,}+|npm_[A-Za-z0-9]{20,}+|dckr_[a-z]{3}_[\w-]{16,}+|hv[sbr]\.[\w-]{16,}+"
            r"|pypi-[\w-]{20,}+|AIza[\w-]{30,}+|ya29\.[\w-]{20,}+|sk-[\w-]{24,}+|NRAK-[A-Z0-9]{20,}+|glsa_\w{20,}+|sha256~[\w-]{20,}+"
            r"|K10[0-9a-f]{40,}+::[\w:.-]{8,}+|AGE-SECRET-KEY-1[A-Z0-9]{20,}+|MUNGE:[A-Za-z0-9+/=]{16,}+:?)"
        ),
        (
            "ghp_SECRETcdefghijklmnopqrst",
            "github_pat_11SECRET_defghijklmnop",
            "glpat-SECRETcdefghijkl",
            "AKIASECRETDEFGHIJKLM",
            "xoxb-SECRET-123456",
            "npm_SECRETcdefghijklmnopqrst",
            "dckr_pat_SECRETcdefghijklmnop",
            "hvs.SECRETcdefghijklmnop",
            "sha256~SECRETcdefghijklmnopqrstu",
            "MUNGE:AwQFSECRETdefghijklmnop:",
        ),
        ("glibc-2.31-0+deb11u13", "sk-learn", "AKIA is what it begins with", "ghp_x"),
    ),
    Form(
        "scheme of a header",
        re.compile(
            r"(\b(?i:bearer|basic|negotiate)\s{1,9})(?=[a-z._~-]*+[A-Z0-9+/=]|[a-z]{24})[A-Za-z0-9+/=._~-]{6,}+"
        ),
        ("Basic c2VjcmV0SECRET=", "sent: Bearer SECRETabc0", "NEGOTIATE SECRETabc0"),
        ("basic authentication is needed", "the bearer of that name"),
        rf"\1{REDACTED}",
    ),
    Form(
        "user in a URL",
        re.compile(_AFRESH + r"[A-Za-z][A-Za-z0-9+.-]{0,30}:(?:\\?/){2}(?:[^\s\"'<>\\]|\\/)++"),
        ("https://joe:SECRET@host/path", "https://SECRET@github.com/a.git", r"http:\/\/joe:SECRET@host\/"),
        ("https://host:443/v2/a@sha256:01", "ssh://git@github.com/a.git"),
        _url,
    ),
    Form(
        "user in a place without a scheme",
        re.compile(r"((?<![\w:/\\.])(?:\\?/){2})[^\s\"'<>@/\\]{1,200}:[^\s\"'<>@]{1,200}(?=@[\w.\[-])"),
        ("mount -t cifs //joe:SECRET@host/share /mnt", "see //joe:SECRET@host"),
        ("//host/share", "a // b: c@d", "// joe:x"),
        rf"\1{REDACTED}",
    ),
    Form(
        "user and password of curl",
        re.compile(
            r"((?<![\w-])(?:-[A-Za-z]{0,8}u|--(?:proxy-)?(?:user|creds)|--(?:src|dest)-creds|-U)(?:[ \t=]{0,9}|[\"'], ?)?[\"']?)"
            r"(?![0-9]{1,9}:[0-9]{1,9}\b)[^\s:%\"'/]{1,200}+[:%](?!\(redacted\))[^\s\"']++"
        ),
        (
            "curl -u admin:SECRET https://host",
            "curl -sku admin:SECRET https://host",
            "curl -s --user=admin:SECRET",
            "['-u', 'admin:SECRET']",
            "curl -s --proxy-user 'joe:SECRET'",
            "smbclient -U joe%SECRET //host/share",
        ),
        ("docker run -u 1000:1000 image", "ssh -l joe host"),
        rf"\1{REDACTED}",
    ),
    Form(
        "password of a login",
        re.compile(rf"\blogin\b{_SAME}{{0,200}}?(?<=[\s\"',])-p{_NEXT}"),
        (
            "podman login -u admin -p SECRET registry.local",
            "podman login -u admin -pSECRET registry.local",
            'crane auth login registry.local -u admin -p "SECRET"',
            'helm registry login -u admin -p "a b SECRET" registry.local',
            '["podman", "login", "-p", "SECRET", "registry.local"]',
            'a0="podman" a1="login" a2="-p" a3="SECRET"',
        ),
        ("podman login registry.local", "podman login; podman run -p 80:80 image"),
        None,
    ),
    Form(
        "password that an option of one letter gives",
        re.compile(
            rf"\b(?:sshpass\b{_SAME}{{0,20}}?(?<=[\s\"',])-p|ipmi(?:tool|power|console)\b{_SAME}{{0,200}}?(?<=[\s\"',])-P"
            rf"|ldap(?:search|modify|add|delete|whoami|passwd)\b{_SAME}{{0,200}}?(?<=[\s\"',])-w"
            rf"|redis-cli\b{_SAME}{{0,100}}?(?<=[\s\"',])-a|useradd\b{_SAME}{{0,100}}?(?<=[\s\"',])-p"
            rf"|ansible-vault\b{_SAME}{{0,60}}?--vault-password-file"
            rf"|openssl[ \t]+enc\b{_SAME}{{0,200}}?(?<=[\s\"',])-[kK]){_NEXT}"
            rf"|\bhtpasswd\b{_SAME}{{0,40}}?[ \t]-[a-zA-Z]{{0,8}}b[a-zA-Z]{{0,8}}(?:[ \t]+-[a-zA-Z]+)?"
            r"[ \t]+(?:\S{1,200}[ \t]+)?[\w.@-]{1,80}[ \t]+(?!-)"
            rf"|\b(?:mysql|mysqldump|mysqladmin|mariadb)\b{_SAME}{{0,200}}?(?<=[\s\"',])-p(?=\S)"
        ),
        (
            'sshpass -p"SECRET" ssh host',
            "sshpass -p 'SECRET' ssh host",
            "sshpass -pSECRET ssh host",
            "ipmitool -I lanplus -U root -P SECRET -H x1000c0b0 power status",
            "ldapsearch -x -D cn=admin -w SECRET -b dc=x",
            "mysql -u root -pSECRET slurm_acct_db",
            "redis-cli -h host -a SECRET ping",
            "openssl enc -aes-256-cbc -k SECRET -in x",
            "htpasswd -bc file admin SECRET",
            "htpasswd -nbB admin SECRET",
        ),
        (
            "mysql -u root -p slurm_acct_db",
            "ssh -p 22 host",
            "mkdir -p /etc/slurm",
            "ipmitool -I lanplus power status",
            "openssl enc -d -in x",
            "htpasswd -c file admin",
        ),
        None,
    ),
    Form(
        "password of SQL, or of a program's own commands",
        re.compile(
            r"(?i:\b(?:IDENTIFIED[ \t]{1,40}BY(?:[ \t]{1,40}PASSWORD)?[ \t]{1,40}(?=\\{0,7}[\"'])"
            r"|set[ \t]{1,40}(?:password|passwd|secret|token)[ \t]{1,40}(?=[^\s\"';]{3,200};)))"
        ),
        ("GRANT ALL ON x.* TO 'slurm'@'h' IDENTIFIED BY 'SECRET';", "set password SECRET;"),
        ("identified by its name", "set password policy strict;"),
        None,
    ),
    Form(
        "user of a management controller",
        re.compile(r"(?<![\w/.-])(?:root|admin|ADMIN|Administrator):(?!\(redacted\))[^\s:@/\"']{3,200}(?=@[\w.\[-])"),
        ("redfish root:SECRET@bmc",),
        ("chown root:root file", "root: a@b"),
    ),
    Form(
        "password behind a pass:",
        re.compile(r"(?<![\w-])-(?:pass(?:in|out)?)[ \t=]+[\"']?pass:"),
        ("openssl rsa -passin pass:SECRET -in x.key", "openssl enc -pass pass:SECRET"),
        ("openssl rsa -passin stdin",),
        None,
    ),
    Form(
        "password for standard input",
        re.compile(
            r"\b(?:echo|printf)[ \t]+(?:-[a-z]+[ \t]+|\\{0,7}[\"']?%s(?:\\+n)?\\{0,7}[\"']?[ \t]+)?"
            rf"(?={_SAME}{{1,200}}?\|{_SAME}{{1,200}}?"
            r"(?:--password-stdin|passwd[ \t]+--stdin|\bchpasswd\b|\bsudo[ \t]+-S|--stdin\b))"
        ),
        (
            "echo SECRET | podman login -u admin --password-stdin registry.local",
            "echo 'a SECRET' | passwd --stdin root",
            "printf '%s' SECRET | skopeo login --password-stdin host",
            "echo root:SECRET | chpasswd",
        ),
        ("echo done | tee x",),
        None,
    ),
    Form(
        "netrc",
        re.compile(
            r"\b(?:login|machine|default)(?:\s|\\+[nrt]){1,40}\S{1,200}?(?:\s|\\+[nrt]){1,40}"
            r"(?:account(?:\s|\\+[nrt]){1,40}\S{1,200}(?:\s|\\+[nrt]){1,40})?password(?:\s|\\+[nrt]){1,40}"
        ),
        (
            "machine h login u password SECRET",
            "machine h\n  login u\n  password SECRET\n",
            r"login u\npassword SECRET\n",
        ),
        ("machine learning and a password", "login: password is needed"),
        None,
    ),
    Form(
        "password in a sentence",
        re.compile(
            r"(?i:\b(?:password|passwd|passphrase)s?[ \t]+(?:(?:is|was|to|now|set|reset|changed|as)[ \t]+){1,3}"
            r"(?:to[ \t]+|:[ \t]*)?)"
            r"(?=\\{0,7}[\"'](?!\\{0,7}[\"'])|(?=[^\s\"']{6})(?=[^\s\"']{0,60}[A-Za-z])[^\s\"']{0,60}[0-9#$%&*+=@^~!])"
        ),
        ("the password is 'SECRET', said he", "password was changed to SECRET0x", 'password is "SECRET"'),
        (
            "the password was changed in Nexus",
            "password is wrong.",
            "password is not set: see the manual",
            "the password is too short (8)",
        ),
        None,
    ),
    Form(
        "element of XML",
        re.compile(
            r"(<(?:\w{1,40}:)?(\w[\w.-]{0,80})(?:\s(?:[^<>]{0,200}?\b(?:name|key|id)=[\"']([\w.-]{1,200})[\"'])?[^<>]{0,300})?>)"
            rf"{_GONE}(?=[^<>\n]*+<)(?=\s*+[^\s<])[^<>\n]++"
        ),
        (
            '<password type="plain">SECRET</password>',
            "<ns:password>SECRET</ns:password>",
            '<entry key="db.password">SECRET</entry>',
            '<property name="password">SECRET</property>',
        ),
        ("<name>x</name>", '<passwordPolicy id="x">strict</passwordPolicy>', '<a name="b">c</a>'),
        _element,
    ),
    Form(
        "value before its name",
        re.compile(
            r"(\bvalue\\{0,15}[\"']?[ \t]{0,9}[:=][ \t]{0,9})(?P<quote>\\{0,15}[\"']|)"
            rf"(?!\\{{0,15}}[\"']){_GONE}[^\s\"'\\,]{{1,200}}"
            r"(?P<rest>(?P=quote)(?:\s|\\+[nrt]|,){1,40}\\{0,15}[\"']?name\\{0,15}[\"']?[ \t]{0,9}[:=][ \t]{0,9}\\{0,15}[\"']?"
            r"(?P<name>[\w.-]{1,200}))"
        ),
        ("- value: SECRET\n  name: DB_PASSWORD\n", '{"value":"SECRET","name":"DB_PASSWORD"}'),
        ("- value: debug\n  name: LEVEL\n",),
        _before_its_name,
    ),
    Form(
        "signature of a URL",
        re.compile(
            r"([?&](?i:x-amz-signature|signature|sig|key|code|x-goog-signature)=)"
            r"(?!\(redacted\)|%28redacted)[^\s&\"'<>\\#]{8,}"
        ),
        ("https://h/b?X-Amz-Signature=SECRETab&x=1", "https://h/?sig=SECRETab"),
        ("https://h/?key=name", "https://h/?sig=%28redacted%29"),
        rf"\1{REDACTED}",
    ),
    Form(
        "key of kubeadm",
        re.compile(r"(certificate-key[ \t=:]{1,9})[0-9A-Za-z]{32,}+"),
        ("kubeadm join h:6443 --certificate-key 0123456789abcdef0123456789abcdefSECRET",),
        ("--certificate-key is needed",),
        rf"\1{REDACTED}",
    ),
    Form(
        "AuthInfo of Slurm",
        re.compile(
            r"(?<!\w)AuthInfo[ \t]*=[ \t]*(?!\(null\)|(?:socket|ttl|cred_expire|gid|jwt_key|jwks|userclaimfield|use_client_ids)\b)"
        ),
        ("AuthInfo=SECRET", "AuthInfo                = SECRET"),
        ("AuthInfo=socket=/var/run/munge/munge.socket.2,ttl=60", "AuthInfo                = (null)"),
        None,
    ),
    Form(
        "password in quotes",
        re.compile(r"(?i:(?<![\w.-])(?:password|passwd|passphrase))[ \t]{1,9}(?=\\{0,7}[\"'][^\s\"']{3})"),
        ("password 'SECRET' for user 'admin'", 'wrong password \\"SECRET\\" of root'),
        ("the password '' is empty", 'secrets "nexus-admin-credential" not found'),
        None,
    ),
    Form(
        "with a password",
        re.compile(r"(?i:\bwith[ ](?:the[ ])?password[ ]{1,9})(?=[^\s\"']{0,60}[0-9])"),
        ("login of admin with password SECRET0, said he",),
        ("with password authentication", "with password file"),
        None,
    ),
    Form(
        "setting with a blank",
        re.compile(
            r"(?i:(?<![\w-])(?:rootpw|bindpw|requirepass|masterauth|r[ow]community|snmp-server[ ]community|vault[ ]login))"
            r"[ \t]{1,20}(?:--plaintext[ \t]{1,9})?(?=[^\s-]\S{3})"
        ),
        ("rootpw --plaintext SECRET", "bindpw SECRET", "requirepass SECRET", "vault login SECRET"),
        ("bindpw is not set", "vault login -method=ldap"),
        None,
    ),
    Form(
        "row of a table",
        re.compile(
            r"^([ \t]{0,40}[\w.-]{0,40}(?i:password|passwd|passphrase|token|secret|secret_key|access_key)[ \t]{2,40})"
            rf"{_GONE}\S++(?=[ \t]*+$)",
            re.MULTILINE,
        ),
        ("Key         Value\n---         -----\npassword    SECRET\nusername    joe\n",),
        ("default-token   kubernetes.io/service-account-token   3   5d\n", "password  not set here"),
        rf"\1{REDACTED}",
    ),
    Form(
        "proxy without a scheme",
        re.compile(
            r"(?i:_proxy[ \t]{0,9}[=:][ \t]{0,9})[\"']?(?!\(redacted\))[^\s/@\"':]{1,100}:[^\s/@\"']{1,200}(?=@)"
        ),
        ("http_proxy=joe:SECRET@proxy:3128",),
        ("no_proxy=localhost,10.0.0.1", "https_proxy=proxy:3128"),
        f"_proxy={REDACTED}",
    ),
    Form(
        "source of data of Go",
        re.compile(r"(?<![\w.-])[\w.-]{1,64}:(?!\(redacted\))[^\s:@/\"']{1,200}(?=@(?:tcp|unix)\()"),
        ("DSN=joe:SECRET@tcp(db:3306)/x",),
        ("joe@tcp(db:3306)",),
    ),
    Form(
        "credentials of somebody",
        re.compile(
            r"(?i:\bcred(?:ential)?s?\b)(?:[ ]for[ ][^\s:]{1,80})?[ \t:=]{1,9}[\"']?[A-Za-z][\w.-]{0,40}[:/](?![/\s])(?=\S{6})"
        ),
        (
            "creds for x1000c0b0: 'root:SECRET'",
            "credentials admin:SECRET",
            "Using credentials for registry.local: admin/SECRET",
        ),
        ("credentials for https://host", "credentials are needed"),
        None,
    ),
    Form(
        "literal of kubectl",
        re.compile(r"--from-literal[ \t=]{1,9}[\"']?[\w.-]{1,100}="),
        ("kubectl create secret generic x --from-literal=nexus=SECRET", "--from-literal='nexus=SECRET'"),
        ("--from-literal is needed",),
        None,
    ),
    Form(
        "words for standard input",
        re.compile(
            rf"(?:--password-stdin|\bchpasswd|--stdin|password-file|\bsecret[ ]create)\b{_SAME}{{0,80}}?"
            r"<(?:<<[ \t]{0,9}|\((?:echo|printf)[ \t]{1,9})"
        ),
        (
            "podman login --password-stdin <<< SECRET",
            "chpasswd <<<'root:SECRET'",
            "podman secret create x <(echo SECRET)",
        ),
        ("podman secret create x <file",),
        None,
    ),
    Form(
        "Secret of Kubernetes, in JSON that was cut off",
        re.compile(
            r"((?:kind(?P<q>\\{0,15}\")\s{0,9}:\s{0,9}(?P=q)Secret(?P=q)[^\n]{0,2000}?(?P=q)(?:data|stringData)|(?:\bstringData(?P<r>\\{0,15}\")))"
            r"(?:(?P=q)|)?\s{0,9}:\s{0,9}\{)(?!\s*\}|\\*\"\(redacted\)\\*\":)[^{}\n]++"
        ),
        (
            'Response Body: {"kind":"Secret","apiVersion":"v1","data":{"nexus":"SECRET"}} [truncated',
            '{"apiVersion":"v1","stringData":{"nexus":"SECRET',
        ),
        ('{"kind":"ConfigMap","data":{"a":"b"}}',),
        lambda match: f"{match[1]}{_pair(match['q'] or match['r'])}",
    ),
    Form(
        "Secret of Kubernetes, in YAML",
        re.compile(
            r"^(?P<indent> {0,40})(?P<item>- )?(?:data|stringData):[ \t]*\n(?P<body>(?:(?P=indent)[ ]{1,40}\S[^\n]*\n?)++)",
            re.MULTILINE,
        ),
        (
            "apiVersion: v1\ndata:\n  nexus: SECRET\nkind: Secret\n",
            "kind: Secret\nstringData:\n  nexus: SECRET\n  b: |\n    SECRET\ntype: Opaque\n",
            "items:\n- apiVersion: v1\n  data:\n    nexus: SECRET\n  kind: Secret\n",
        ),
        ("apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\n",),
        _yaml,
    ),
)
