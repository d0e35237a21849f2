"""Asks the site's registry, with TLS as podman has it on this host. Runs on the master, with Python 3.6 or later.

python3 -c TEXT REGISTRY SECRET TOKEN-HOSTS WHAT ARGUMENT...
REGISTRY is HOST[:PORT][/PATH]; SECRET is NAMESPACE/NAME; TOKEN-HOSTS are further hosts (HOST[:PORT], with blanks between) that may
get the password, to issue tokens. WHAT is one of:

authfile             print an authfile for podman
check                print one line of JSON: "tls", and "problem", "text" and perhaps "cause" where something is wrong
images IMAGE...      print a line "image IMAGE STATE" for each: the digest of its configuration, "absent", or "unreadable"; after
                     the last a line "problem IMAGE WHY", and perhaps "cause IMAGE CAUSE"
look IMAGE...        print what `check` prints, then what `images` prints, from the same questions; where the Secret cannot be read,
                     the second line is "secret WHY"
writable REPOSITORY  begin an upload and cancel it; print how TLS is where it is not verified, and why the registry rejects uploads,
                     with exit code 1

The credential is in this process and in its pipes alone. It goes to the registry's own host and port, and to the hosts that may
issue tokens; no redirect is followed. TLS is verified unless podman's registries.conf says `insecure` for this registry.
"""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.parse

SECONDS = 20
"""Within which the registry answers a request."""
PODMAN = 30
"""Within which podman says how it is configured."""
LIMIT = 8 << 20
"""Bytes of the longest answer: registries take no manifest of more than 4 MiB."""
VERIFIED, UNVERIFIED, PLAIN = "verified", "unverified", "plain"
CERTS = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
"""Where podman looks for a folder HOST[:PORT] with more CAs (.crt), and certificates of its own (.cert, .key): the first counts."""
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
CERTIFICATE, REJECTED = "certificate", "rejected"
"""Causes of a problem: a certificate that is not trusted here; a credential that the registry does not take."""
NOT_A_REGISTRY = "it does not answer as a registry"


class Problem(Exception):
    """What is wrong: a word for the finding, and a text for people. `cause` decides what to do: CERTIFICATE, REJECTED, or ""."""

    def __init__(self, kind, text, cause=""):
        Exception.__init__(self, text)
        self.kind = kind
        self.cause = cause


# --- the credential


def credential(secret):
    """USER:PASSWORD as bytes, each as a shell's $(...) reads it: without newlines at its end."""
    namespace, _, name = secret.partition("/")
    # --raw: without discovery, which kubectl would cache in a folder
    path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
    command = ["kubectl", "--request-timeout", "20s", "get", "--raw", path]
    # GOGC: it reads little and ends, and a fourth of its time would be garbage collection
    settings = dict(os.environ, GOGC="400")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
            env=settings,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Problem("secret", f"kubectl: {type(error).__name__}") from error
    if done.returncode:
        raise Problem("secret", last_line(done.stderr) or f"kubectl ended with exit code {done.returncode}")
    try:
        data = json.loads(done.stdout.decode())["data"]
        pair = [base64.b64decode(data[key], validate=True).rstrip(b"\n") for key in ("username", "password")]
    except (ValueError, KeyError, TypeError):
        raise Problem("secret", "it lacks a readable username and password") from None
    return b":".join(pair)


def last_line(output):
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


# --- TLS, as podman has it


# podman makes its storage and locks where they are missing, and a lock in /etc/cni: here in memory that ends with it, so that a
# plan changes no file. For the versions of its helpers, which nobody needs, it would ask the package manager four times: it finds
# none. In a /dev/shm that everybody can write nothing is made or read: what others put there would become /etc.
PODMAN_INFO = """
if unshare --mount mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
    exec unshare --mount sh -c 'mount -t tmpfs tmpfs /dev/shm && cd /dev/shm && mkdir etc work || exit
        mount -t overlay overlay -o lowerdir=/etc,upperdir=/dev/shm/etc,workdir=/dev/shm/work /etc 2>/dev/null
        for manager in /usr/bin/rpm /usr/bin/dpkg-query; do
            [ ! -e "$manager" ] || mount --bind /dev/null "$manager" 2>/dev/null
        done
        exec podman --root /dev/shm/root --runroot /dev/shm/run --tmpdir /dev/shm/state --storage-driver vfs info --format json'
fi
exec podman info --format json
"""


def registries():
    """Prefix -> entry of registries.conf, of both versions and with registries.conf.d, as podman itself reads them."""
    if not shutil.which("podman"):
        return {}  # the preflight reports a missing program
    try:
        command = ["sh", "-c", PODMAN_INFO]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PODMAN
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Problem("podman", f"`podman info` gives no answer: {type(error).__name__}") from error
    if done.returncode:
        raise Problem("podman", last_line(done.stderr) or f"exit code {done.returncode}")
    try:
        entries = json.loads(done.stdout.decode("utf-8", "replace")).get("registries") or {}
        return {prefix: entry for prefix, entry in entries.items() if isinstance(entry, dict)}
    except (ValueError, AttributeError):
        raise Problem("podman", "`podman info` did not print JSON") from None


def entry_of(entries, name):
    """The entry that podman uses for NAME (HOST[:PORT]/REPOSITORY): the one with the longest prefix. {} where there is none."""
    lengths = {prefix: covered(prefix, name) for prefix in entries}
    best = max(lengths, key=lambda prefix: lengths[prefix], default="")
    return entries[best] if lengths.get(best, 0) > 0 else {}


def covered(prefix, name):
    """How many characters of NAME a prefix covers, 0 where it does not fit; "*.DOMAIN" stands for all hosts of a domain."""
    end = len(prefix) if name.startswith(prefix) else 0
    if prefix.startswith("*."):
        at = name.partition("/")[0].find(prefix[1:])
        end = at + len(prefix) - 1 if at > 0 else 0
    return end if end and (len(name) == end or name[end] in ":/@") else 0


def tls_context(host, insecure):
    """What podman verifies of the peer HOST[:PORT]: the host's own CAs, and those of the first folder in certs.d."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    folders = [pathlib.Path(place).expanduser() / host for place in CERTS]
    folder = next((folder for folder in folders if folder.exists()), None)
    try:
        for file in sorted(folder.iterdir()) if folder else []:
            if file.suffix == ".crt":
                more_authorities(context, str(file))
            elif file.suffix == ".cert":
                context.load_cert_chain(str(file), str(file.with_suffix(".key")), password=lambda: b"")
    except (OSError, ValueError) as error:
        raise Problem("unreachable", f"{folder} cannot be used: {reason(error)}") from error
    return context


def more_authorities(context, path):
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        return  # podman ignores a file without certificates, too


def of_network(error, before=""):
    """The Problem of an error of the network, in words."""
    # Python 3.6 has no class of its own for a certificate that is not trusted
    untrusted = isinstance(error, ssl.CertificateError) or getattr(error, "reason", "") == "CERTIFICATE_VERIFY_FAILED"
    return Problem("unreachable", before + reason(error), CERTIFICATE if untrusted else "")


def reason(error):
    """An error of the network in words."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return f"no answer within {SECONDS} s"
    if isinstance(error, ssl.SSLError) and getattr(error, "verify_message", ""):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.CertificateError):
        return f"its certificate is not trusted: {error}"
    if isinstance(error, ssl.SSLError):
        return "TLS failed: {}".format((error.reason or str(error)).replace("_", " ").lower())
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
        return f"{NOT_A_REGISTRY}: it sends {printable(error.line.strip())}"
    # the text may have what the server sent
    return (isinstance(error, OSError) and error.strerror) or printable(str(error).strip()) or type(error).__name__


# --- HTTP


class Answer:
    """What a server answered: its status, headers and body."""

    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def html(self):
        return self.headers.get_content_type() in ("text/html", "application/xhtml+xml")


def too_late(number, frame):
    raise TimeoutError()


def ask(scheme, host, context, method, path, headers):
    """One request to HOST[:PORT]; no redirect is followed. Raises OSError, ssl.CertificateError, http.client.HTTPException."""
    name, _, port = host.partition(":")
    if scheme == "https":
        link = http.client.HTTPSConnection(name, int(port or 443), timeout=SECONDS, context=context)
    else:
        link = http.client.HTTPConnection(name, int(port or 80), timeout=SECONDS)
    signal.signal(signal.SIGALRM, too_late)  # a server may also send a byte from time to time
    signal.alarm(SECONDS)
    try:
        link.request(method, path, b"" if method == "POST" else None, dict(headers, **{"User-Agent": "dws-on-csm"}))
        response = link.getresponse()
        body = response.read(LIMIT + 1) if method != "HEAD" else b""
        if len(body) > LIMIT:
            raise http.client.HTTPException(f"its answer is longer than {LIMIT >> 20} MiB")
        return Answer(response, body)
    finally:
        signal.alarm(0)
        link.close()


FAILURES = (OSError, ssl.CertificateError, http.client.HTTPException)


class Registry:
    """The registry: how it is reached, and what it gets to see of the credential.

    tls            VERIFIED; UNVERIFIED or PLAIN only where registries.conf says `insecure`
    authorization  the header of the next request
    """

    def __init__(self, name, secret, issuers):
        self.name = name
        self.host = name.partition("/")[0]
        self.issuers = issuers.split()
        self.credential = "Basic " + base64.b64encode(credential(secret)).decode()
        self.entries = registries()
        entry = entry_of(self.entries, name + "/dws")
        if entry.get("Blocked"):
            raise Problem("unreachable", "registries.conf blocks it, so podman pushes nothing to it")
        self.insecure = bool(entry.get("Insecure"))
        self.tls = UNVERIFIED if self.insecure else VERIFIED
        self.context = tls_context(self.host, self.insecure)
        self.authorization = ""
        self.connect()

    @property
    def scheme(self):
        return "http" if self.tls == PLAIN else "https"

    def connect(self):
        """Ask without a credential how the registry wants to have it, as podman does."""
        try:
            answer = self.send("GET", "/v2/")
        except FAILURES as error:
            if not self.insecure:
                raise of_network(error) from error
            self.tls = PLAIN  # as podman does where it may
            try:
                answer = self.send("GET", "/v2/")
            except FAILURES:
                self.tls = UNVERIFIED
                raise of_network(error) from error
        asked = challenges(answer)
        if answer.status == 401 and "bearer" in asked and "basic" not in asked:
            self.authorization = self.token(asked["bearer"])
        else:
            self.authorization = self.credential

    def check(self):
        """Raise Problem unless the registry takes the credential and answers as a registry."""
        answer = self.answer("GET", "/v2/")
        if answer.status in (401, 403):
            raise Problem("credential", f"HTTP {answer.status}")
        if answer.status != 200:
            raise Problem("unreachable", f"{NOT_A_REGISTRY}: {status_text(answer)}")
        if answer.headers.get("Docker-Distribution-Api-Version", "").startswith("registry/2"):
            return
        if answer.html or (answer.body.strip() and parsed(answer.body, None) is None):
            raise Problem("unreachable", f"{NOT_A_REGISTRY}: {body_text(answer)}")

    def answer(self, method, path, accept=()):
        """The answer to a request with the credential. Where the registry wants another token for it, it gets that one."""
        headers = {"Accept": ", ".join(accept)} if accept else {}
        try:
            answer = self.send(method, path, headers)
            asked = challenges(answer)
            if answer.status == 401 and "bearer" in asked and self.authorization != self.credential:
                self.authorization = self.token(asked["bearer"])
                answer = self.send(method, path, headers)
        except FAILURES as error:
            raise of_network(error) from error
        return answer

    def send(self, method, path, headers=()):
        headers = dict(headers)
        if self.authorization:
            headers["Authorization"] = self.authorization
        return ask(self.scheme, self.host, self.context, method, escaped(path), headers)

    def token(self, asked):
        """The Authorization header with the token that the registry wants (WWW-Authenticate: Bearer)."""
        realm, host = self.issuer(asked.get("realm", ""))
        own = host == self.host
        query = [("service", asked["service"])] if asked.get("service") else []
        query += [("scope", scope) for scope in asked.get("scope", "").split(" ") if scope]
        path = (realm.path or "/") + "?" + "&".join(filter(None, [realm.query, urllib.parse.urlencode(query)]))
        context = self.context if own else tls_context(host, bool(entry_of(self.entries, host).get("Insecure")))
        scheme = self.scheme if own else "https"
        try:
            answer = ask(scheme, host, context, "GET", escaped(path), {"Authorization": self.credential})
        except FAILURES as error:
            raise of_network(error, f"{host}, which issues its tokens: ") from error
        if answer.status in (401, 403):
            raise Problem("credential", f"HTTP {answer.status} from {host}, which issues its tokens")
        issued = parsed(answer.body, {}) if answer.status == 200 else {}
        tokens = [issued.get(key) for key in ("token", "access_token")] if isinstance(issued, dict) else []
        token = next((token for token in tokens if isinstance(token, str) and re.fullmatch("[!-~]+", token)), "")
        if not token:
            text = "{}, which issues its tokens, does not answer with a token: {}"
            raise Problem(
                "unreachable", text.format(host, body_text(answer) if answer.status == 200 else status_text(answer))
            )
        return "Bearer " + token

    def issuer(self, address):
        """The parts of a realm's address that may get the password, and its HOST[:PORT]; Problem for any other."""
        try:
            realm = urllib.parse.urlsplit(address)
            host, port = realm.hostname or "", realm.port
        except ValueError:
            raise Problem("token", printable(address)) from None
        fits = {with_port(allowed, self.scheme): allowed for allowed in self.issuers}
        fits[with_port(self.host, self.scheme)] = self.host
        asked = "{}:{}".format(host, port or (443 if realm.scheme == "https" else 80))
        scheme = self.scheme if fits.get(asked) == self.host else "https"
        if "@" in realm.netloc or asked not in fits or realm.scheme != scheme:
            raise Problem("token", printable("{}://{}".format(realm.scheme, realm.netloc.rpartition("@")[2])))
        return realm, fits[asked]


def with_port(host, scheme):
    """HOST:PORT in lower case."""
    return (host if ":" in host else "{}:{}".format(host, 443 if scheme == "https" else 80)).lower()


def escaped(path):
    """A path of a request: nothing in it ends the line."""
    return urllib.parse.quote(path, safe="".join(map(chr, range(33, 127))))


WORDS = re.compile(r'([A-Za-z][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|([A-Za-z][\w-]*)')


def challenges(answer):
    """Scheme in lower case -> the parameters of each way to log in that a 401 names."""
    ways, way = {}, {}
    for text in answer.headers.get_all("WWW-Authenticate") or []:
        way = {}
        for match in WORDS.finditer(text):
            key, quoted, plain, scheme = match.groups()
            if scheme:
                way = ways.setdefault(scheme.lower(), {})
            else:
                way[key.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
    return ways


def parsed(body, otherwise):
    """A body as JSON; `otherwise` where it is none."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return otherwise


def printable(text):
    return re.sub(r"[^ -~]", "?", text)[:200]


def status_text(answer):
    place = answer.headers.get("Location", "")
    return "HTTP {}{}".format(answer.status, " to " + printable(place) if place else "")


def body_text(answer):
    """What an answer has in place of what a registry answers."""
    if answer.html:
        return "it sends a web page (HTML)"
    return "it sends {}".format(printable(answer.body[:60].decode("utf-8", "replace")).strip() or "nothing")


# --- what is asked


def image_state(registry, image):
    """The digest of the image's configuration, or "absent". Raises Problem.

    An index counts as the image in it for this host's kind of machine. Where an index lacks that, its own digest is the answer.
    """
    name = image.partition("/")[2]
    repository, _, tag = name.rpartition(":")
    answer = registry.answer("GET", f"/v2/{repository}/manifests/{tag}", INDEXES + MANIFESTS)
    if answer.status == 404 and not answer.html:
        return "absent"
    return configuration(registry, repository, answer)


MEANINGS = {
    401: "the registry rejects the credential (HTTP 401)",
    403: "the registry rejects this user (HTTP 403)",
}


def configuration(registry, repository, answer, deeper=True):
    if answer.status != 200:
        if answer.status in MEANINGS:
            raise Problem("unreachable", MEANINGS[answer.status], REJECTED)
        raise Problem("unreachable", f"{NOT_A_REGISTRY}: {status_text(answer)}")
    own = "sha256:" + hashlib.sha256(answer.body).hexdigest()
    manifest = parsed(answer.body, None)
    config = manifest.get("config") if isinstance(manifest, dict) else None
    if isinstance(config, dict) and is_digest(config.get("digest")):
        return config["digest"]
    if isinstance(manifest, dict) and config is None and "config" not in manifest:
        listed = manifest.get("manifests", "")
        if listed is None or isinstance(listed, list):
            child = for_this_machine(listed or []) if deeper else ""
            if not child:
                return own
            answer = registry.answer("GET", f"/v2/{repository}/manifests/{child}", INDEXES + MANIFESTS)
            # an index may be there without all images in it
            return own if answer.status == 404 else configuration(registry, repository, answer, False)
        if manifest.get("schemaVersion") == 1:
            return own
    raise Problem("unreachable", f"{NOT_A_REGISTRY}: {body_text(answer)} in place of a manifest")


def is_digest(value):
    return isinstance(value, str) and bool(DIGEST.fullmatch(value))


def for_this_machine(listed):
    """The digest of the image for this host's kind of machine in an index; "" where it has none. An image without a platform counts
    where it is the only one, as nodes then look into it."""
    machine = MACHINES.get(platform.machine(), platform.machine())
    entries = [entry for entry in listed if isinstance(entry, dict) and is_digest(entry.get("digest"))]
    for entry in entries:
        kind = entry.get("platform")
        if isinstance(kind, dict) and (kind.get("os"), kind.get("architecture")) == ("linux", machine):
            return entry["digest"]
    # beside it there may be images of other machines, and attestations ("unknown/unknown")
    bare = [entry["digest"] for entry in entries if not entry.get("platform")]
    if len(bare) == 1:
        return bare[0]
    return ""


WITHOUT = {UNVERIFIED: "not verified", PLAIN: "not used"}


def writable(registry, repository):
    """Begin an upload and cancel it: a registry that is read-only or full reports that before any image is pulled."""
    if registry.tls != VERIFIED:
        tell(f"{registry.host}: TLS is {WITHOUT[registry.tls]}, as registries.conf says")
    answer = registry.answer("POST", f"/v2/{repository}/blobs/uploads/")
    if answer.status != 202:
        tell(f"the registry rejects uploads: {status_text(answer)}")
        sys.exit(1)
    place = own_path(registry, answer.headers.get("Location", ""))
    # an upload on another server, or one that cannot be cancelled, expires
    if place:
        try:
            registry.send("DELETE", place)
        except FAILURES:
            return


def own_path(registry, place):
    """The path of a URL that the registry answered, if it is on this registry; else ""."""
    start = f"{registry.scheme}://{registry.host}"
    path = place[len(start) :] if place.startswith(start + "/") else place
    return path if re.fullmatch(r"/(?!/)[!-~]*", path) else ""


def problem_text(problem):
    if problem.kind == "credential":
        return f"the registry rejects the credential ({problem})"
    if problem.kind == "token":
        return f"it wants the password sent to {problem}"
    return str(problem)


def tell_problem(image, problem):
    tell(f"image {image} unreadable")
    tell(f"problem {image} {problem_text(problem)}")
    cause = REJECTED if problem.kind == "credential" else problem.cause
    if cause:
        tell(f"cause {image} {cause}")


def tell(text):
    sys.stdout.buffer.write((text + "\n").encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def main(name, secret, issuers, what, *arguments):
    if what == "authfile":
        pair = base64.b64encode(credential(secret)).decode()
        tell(json.dumps({"auths": {name.partition("/")[0]: {"auth": pair}}}))
        return
    try:
        registry, unusable = Registry(name, secret, issuers), None
    except Problem as problem:
        registry, unusable = None, problem
    if what in ("check", "look"):
        tell_check(registry, unusable)
    if what == "look" and unusable and unusable.kind == "secret":
        tell(f"secret {problem_text(unusable)}")
    elif unusable and what != "check" and (unusable.kind == "secret" or what == "writable"):
        sys.stderr.buffer.write((problem_text(unusable) + "\n").encode("utf-8", "replace"))
        sys.exit(1)
    elif what in ("images", "look"):
        tell_images(registry, unusable, arguments)
    elif what == "writable":
        writable(registry, *arguments)


def tell_check(registry, problem):
    """The line of `check`; `problem`: why there is no registry, if there is none."""
    result = {"tls": registry.tls if registry else VERIFIED}
    try:
        if registry:
            registry.check()
    except Problem as found:
        problem = found
    if problem:
        result.update(problem=problem.kind, text=str(problem))
        if problem.cause:
            result["cause"] = problem.cause
    tell(json.dumps(result))


def tell_images(registry, problem, images):
    """The lines of `images`; `problem`: why there is no registry, if there is none: that is said of each."""
    for image in images:
        try:
            if problem:
                raise problem
            tell(f"image {image} {image_state(registry, image)}")
        except Problem as found:
            tell_problem(image, found)


main(*sys.argv[1:])
