"""The lab's programs that Debian does not have, each built once from its Go module, into the cache.

The folders in go/ hold what pins them: a go.mod that names the version, the go.sum that its parts are checked against,
and a main.go only where no program of that name exists upstream.
"""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lab import cache, openapi
from lab.releases import USUAL, Release

KUSTOMIZE = "5.1.1"
KUBE_RBAC_PROXY = "0.14.2"

MODULES = Path(__file__).parent / "go"
OWN_PROXY_BELOW = 31
OLDEST_GO = (1, 24)
DEADLINE = 3600.0  # seconds; the longest of these builds takes 6 minutes on two cores
REPORT_EVERY = 30.0  # seconds between two announcements of how far a build is

Announce = Callable[[str], None]


class BuildError(RuntimeError):
    """Go is missing or too old, or a build failed; the text says what to do, or ends with the compiler's output."""


def say(text: str) -> None:
    """Announces by printing."""
    print(text, flush=True)  # noqa: T201 - the default for a caller that has no display of its own


def all_programs(release: Release = USUAL, announce: Announce = say) -> None:
    """Builds every program that is not in the cache yet: about 10 minutes on two cores, nothing when all are.

    Small ones first: a machine without a fitting Go or without its modules shows that within seconds. Each build uses
    all cores, so they follow one another. Another release than the usual one needs some 6 minutes more.
    """
    for build in (pause, kustomize, kubernetes):
        build(announce)
    for build_of_release in (servers, kube_proxy, kubectl, cert_manager):
        build_of_release(release, announce)
    kube_rbac_proxy(announce)


def pause(announce: Announce = say) -> Path:
    """The process of a pod's sandbox: a static binary."""
    return go_program("pause", MODULES / "pause", ".", expect="1 s", announce=announce)


def kubernetes(announce: Announce = say) -> Path:
    """`kube`: etcd, the kubelet and the other servers of the usual Kubernetes in one static binary of 140 MB.

    Which of them it is depends on the name it is called by, or else on its first argument.
    """
    return go_program("kube", MODULES / "kube", ".", _kubernetes_version(USUAL), expect="6 min", announce=announce)


def servers(release: Release, announce: Announce = say) -> Path:
    """The API server, controller manager, scheduler and kubelet of `release`, in one binary as `kube` is."""
    if not release.servers:
        return kubernetes(announce)
    return _of_release("kube-servers", ".", release, "6 min", announce)


def kube_proxy(release: Release, announce: Announce = say) -> Path:
    """The kube-proxy for `release`: the usual one, or where its API server is too old for that, the last one that fits.

    From 1.32 on, kube-proxy asks for Services by a field that an API server before 1.31 cannot select by.
    """
    if release.minor >= OWN_PROXY_BELOW:
        return kubernetes(announce)
    package = "k8s.io/kubernetes/cmd/kube-proxy"
    return go_program("kube-proxy", MODULES / "kube-proxy", package, expect="4 min", announce=announce)


def kubectl(release: Release = USUAL, announce: Announce = say) -> Path:
    """kubectl as a program of its own, which starts in a third of the time of `kube`. Tests start it thousands of times."""
    package = "k8s.io/kubernetes/cmd/kubectl"
    if release.servers:
        return _of_release("kubectl", package, release, "1 min", announce)
    return go_program("kubectl", MODULES / "kube", package, _kubernetes_version(release), "1 min", announce)


def _of_release(name: str, package: str, release: Release, expect: str, announce: Announce) -> Path:
    """NAME-VERSION, built from `package` with the module file of `release`."""
    source, flags = MODULES / "kube-servers", f"-s -w {_kubernetes_version(release)}"
    name = f"{name}-{release.kubernetes}"
    files = [source / file for file in ("main.go", f"{release.servers}.mod", f"{release.servers}.sum")]

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=cache.folder()) as scratch:
            module = Path(scratch) / source.name
            module.mkdir()
            for file in files:
                shutil.copyfile(file, module / file.name.replace(release.servers, "go"))
            if package == ".":  # kubectl needs no schemas
                openapi.complete(module, [str(go())], environment(Path(scratch)), announce)
            compile_go(module, [package], flags, folder / name, expect, announce)

    inputs: list[str | Path] = [*files, Path(openapi.__file__), go_version(), flags, package]
    return cache.entry(name, inputs, make, announce, expect) / name


def _kubernetes_version(release: Release) -> str:
    """The linker's flags with the version that Kubernetes' programs report."""
    major, minor, _ = release.kubernetes.split(".")
    version = {"gitVersion": f"v{release.kubernetes}", "gitMajor": major, "gitMinor": minor}
    return " ".join(
        f"-X k8s.io/{package}/version.{key}={value}"
        for package in ("component-base", "client-go/pkg")
        for key, value in version.items()
    )


def kustomize(announce: Announce = say) -> Path:
    """kustomize as its release is: `kustomize version` prints exactly v5.1.1, or else DWS's Makefile deletes it."""
    ldflags = f"-X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v{KUSTOMIZE}"
    package = "sigs.k8s.io/kustomize/kustomize/v5"
    return go_program("kustomize", MODULES / "kustomize", package, ldflags, expect="12 s", announce=announce)


def kube_rbac_proxy(announce: Announce = say) -> Path:
    """kube-rbac-proxy 0.14.2: a static binary."""
    package = "github.com/brancz/kube-rbac-proxy/cmd/kube-rbac-proxy"
    ldflags = f"-X k8s.io/component-base/version.gitVersion=v{KUBE_RBAC_PROXY}"
    source = MODULES / "kube-rbac-proxy"
    return go_program("kube-rbac-proxy", source, package, ldflags, expect="2 min", announce=announce)


def cert_manager(release: Release = USUAL, announce: Announce = say) -> Path:
    """A folder with the controller, webhook and cainjector of the cert-manager of `release`, and its CRDs' templates in crds/."""
    source, module = MODULES / release.cert_manager_source, release.cert_manager_module
    packages = [f"{module}/cmd/{name}" for name in ("controller", "webhook", "cainjector")]
    ldflags = f"-s -w -X {module}/pkg/util.AppVersion=v{release.cert_manager}"

    def make(folder: Path) -> None:
        compile_go(source, packages, ldflags, folder, "2 min", announce)
        (folder / "crds").mkdir()
        for crd in (module_folder(source, module) / "deploy/crds").glob("crd-*.yaml"):
            shutil.copyfile(crd, folder / "crds" / crd.name)

    inputs: list[str | Path] = [source, go_version(), ldflags, *packages]
    return cache.entry("cert-manager", inputs, make, announce, expect="2 min")


def go_program(
    name: str, source: Path, package: str, ldflags: str = "", expect: str = "", announce: Announce = say
) -> Path:
    """The static binary NAME, built from `package` of the module in the folder `source`, from the cache or made now.

    `ldflags` goes to the linker ("-X path.variable=value"); `expect` is how long it takes ("90 s"). BuildError when it
    can't be built. The module needs a complete go.sum: nothing in `source` is changed.
    """
    flags = f"-s -w {ldflags}".strip()

    def make(folder: Path) -> None:
        compile_go(source, [package], flags, folder / name, expect, announce)

    return cache.entry(name, (source, go_version(), flags, package), make, announce, expect) / name


def compile_go(
    source: Path, packages: Sequence[str], ldflags: str, output: Path, expect: str, announce: Announce
) -> None:
    """Compiles `packages` of the module in `source` into the file `output`, or the folder when it is one."""
    # The cache's folder has room for the linker's files of a gigabyte; /tmp may be small, and $TMPDIR may be gone.
    with tempfile.TemporaryDirectory(dir=cache.folder()) as scratch:
        build = ["nice", "-n", "5", str(go()), "build", "-v", "-trimpath", f"-ldflags={ldflags}"]
        command, env = [*build, "-o", str(output), *packages], environment(Path(scratch))
        with subprocess.Popen(command, cwd=source, env=env, stderr=subprocess.PIPE, text=True) as compiler:
            messages = _follow(compiler, source.name, expect, announce)
    if compiler.returncode != 0:
        raise BuildError(f"{source.name}: go build exited {compiler.returncode}\n" + "\n".join(messages))


def _follow(compiler: subprocess.Popen[str], name: str, expect: str, announce: Announce) -> Iterable[str]:
    """The last lines of `compiler`'s output, when it has ended or an hour is over."""
    deadline = threading.Timer(DEADLINE, compiler.kill)
    deadline.start()
    try:
        return _announced(compiler, name, expect, announce)
    finally:
        deadline.cancel()  # also when interrupted: this process would not end before its timers


def _announced(compiler: subprocess.Popen[str], name: str, expect: str, announce: Announce) -> Iterable[str]:
    began = reported = time.monotonic()
    lines: deque[str] = deque(maxlen=30)
    assert compiler.stderr is not None
    for count, line in enumerate(compiler.stderr, 1):
        lines.append(line.rstrip())
        if (now := time.monotonic()) - reported >= REPORT_EVERY:
            reported = now
            announce(f"  {name}: {now - began:.0f} s of about {expect or '?'}, {count} packages done")
    return lines


def environment(scratch: Path) -> dict[str, str]:
    """What Go is run with: this machine's own settings, but for those that would change what comes out."""
    fixed = {"CGO_ENABLED": "0", "GO111MODULE": "on", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    return {**os.environ, **fixed, "GOTOOLCHAIN": "local", "TMPDIR": str(scratch)}


def module_folder(source: Path, module: str) -> Path:
    """Where Go keeps the files of `module`, which the module in `source` requires and which was built before."""
    run = [str(go()), "list", "-m", "-f", "{{.Dir}}", module]
    listed = subprocess.run(run, cwd=source, env=environment(cache.folder()), capture_output=True, text=True)
    if listed.returncode != 0 or not listed.stdout.strip():
        raise BuildError(f"{module}: go list exited {listed.returncode}\n{listed.stderr}")
    return Path(listed.stdout.strip())


def go() -> Path:
    """The go command: PATH's, or else the one in /usr/local/go."""
    if program := shutil.which("go"):
        return Path(program)
    return Path("/usr/local/go/bin/go")


def go_version() -> str:
    """Go's version ("go1.26.8 linux/amd64"); BuildError when there is none, or one that is too old."""
    wanted = "Go {}.{} or newer is needed: https://go.dev/dl/ has it, to be unpacked as /usr/local/go".format(
        *OLDEST_GO
    )
    try:
        run = [str(go()), "version"]
        version = subprocess.run(run, env=environment(Path("/")), check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        raise BuildError(f"{wanted} ({problem})") from problem
    match = re.search(r"go(\d+)\.(\d+)\S* \S+", version)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_GO:
        raise BuildError(f"{wanted} (this machine has {version.strip()})")
    return match[0]
