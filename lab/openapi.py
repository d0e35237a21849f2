"""What the modules of Kubernetes before 1.24 lack: the API's schemas as Go code, which its own build generates."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

KUBERNETES = "k8s.io/kubernetes"
GENERATED = "pkg/generated/openapi"
GENERATOR = "k8s.io/kube-openapi/cmd/openapi-gen"
TAG = b"+k8s:openapi-gen="
DEADLINE = 600.0  # seconds; it takes 20 s on two cores


def complete(module: Path, go: Sequence[str], env: Mapping[str, str], announce: Callable[[str], None]) -> None:
    """Where the Kubernetes that the module in the folder `module` requires lacks its schemas, gives it a copy that has them.

    `go` is how Go is called, with `env`. The copy lies beside `module`, whose go.mod then names it. CalledProcessError has the
    output of what failed.
    """

    def run(*arguments: str) -> str:
        # Kubernetes' generator of that time does not know Go's type aliases.
        done = subprocess.run(
            arguments,
            cwd=module,
            env={**env, "GODEBUG": "gotypesalias=0"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        return done.stdout

    run(*go, "mod", "download", KUBERNETES)
    original = Path(run(*go, "list", "-m", "-f", "{{.Dir}}", KUBERNETES).strip())
    if any((original / GENERATED).glob("zz_generated*.go")):
        return
    announce("  generating the API's schemas (about 1 min)")
    generator, output = module.with_name("openapi-gen"), module.with_name("generated")
    run(*go, "build", "-o", str(generator), GENERATOR)
    packages = _with_schemas(run(*go, "list", "-deps", "-f", "{{.ImportPath}}\t{{.Dir}}", "."))
    run(
        *(str(generator), "--input-dirs", ",".join(packages)),
        *("--output-package", f"{KUBERNETES}/{GENERATED}", "--output-file-base", "zz_generated.openapi"),
        *("--output-base", str(output), "--go-header-file", os.devnull, "--report-filename", os.devnull),
    )
    copy = module.with_name("kubernetes")
    shutil.copytree(original, copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # Go's module cache is read-only
    shutil.copy(output / KUBERNETES / GENERATED / "zz_generated.openapi.go", copy / GENERATED)
    run(*go, "mod", "edit", f"-replace={KUBERNETES}={copy}")


def _with_schemas(listed: str) -> Iterator[str]:
    """The packages of Kubernetes among the lines "PACKAGE<tab>FOLDER" whose files ask for schemas."""
    for package, _, folder in (line.partition("\t") for line in listed.splitlines()):
        if package.startswith("k8s.io/") and any(TAG in file.read_bytes() for file in Path(folder).glob("*.go")):
            yield package
