"""A pod's container, reached with kubectl exec on the master: scripts run there as on any host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dws_on_csm.config.site import Pod
from dws_on_csm.kube import pods
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import login_shell
from dws_on_csm.transport.remote_shell import GRACE, RemoteShell, exports
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from dws_on_csm.transport.channel import Exchange
    from dws_on_csm.transport.link import Channel

# kubectl would cache what it learns of the API in the admin's home, and a plan must leave nothing there. One line: see login_shell.
# The script in the container has its own deadline; kubectl itself would wait forever for a kubelet that hangs.
_EXEC = (
    "shift; cache=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX) || exit; trap 'rm -rf -- \"$cache\"' EXIT; "
    "trap 'trap \"\" HUP TERM PIPE; exit 143' HUP TERM PIPE; "
    'timeout --foreground -k 5 {limit} kubectl{context} --cache-dir "$cache" exec --stdin --namespace {namespace} {pod} '
    '--container {container} -- "$@"; exit $?'
)


class PodSession(RemoteShell):
    """The container of `pod`, through the connection to the master.

    `environment` is what its scripts see, `kubectl_environment` what kubectl sees on the master. Each script looks the pod
    up again: after a rollout it is another pod.
    """

    def __init__(
        self,
        name: str,
        pod: Pod,
        master: MasterSession,
        environment: Mapping[str, str],
        kubectl_environment: Mapping[str, str],
        context: str,
    ) -> None:
        super().__init__(name, environment, master.password)
        self.places = master.places
        self._pod = pod
        self._master = master
        self._kubectl_environment = kubectl_environment
        self._context = context

    def open(self, seconds: float) -> None:
        """Raises Unreachable where no such pod runs, or several do."""
        self._name()

    def channel(self, command: str) -> Channel:
        """A channel of the master's connection; the master counts it."""
        return self._master.channel(command)

    def close(self) -> None:
        """The master closes its connection itself."""

    def _name(self) -> str:
        """The name of the one pod that runs. Raises Unreachable."""
        try:
            running = pods.running(self._master.cluster(), self._pod)
        except ClusterError as error:
            text = f"the API server did not list its pods: {error}"
            raise Unreachable(self.host, text, "check `kubectl get nodes` on the master") from error
        if len(running) == 1:
            return str(running[0]["metadata"]["name"])
        where = f"with {self._pod.selector} runs in namespace {self._pod.namespace}"
        if running:
            names = ", ".join(pod["metadata"]["name"] for pod in running)
            fix = "narrow its selector in the site file, and list each pod as a controller"
            raise Unreachable(self.host, f"more than one pod {where}: {names}", fix)
        fix = (
            f"run `kubectl -n {self._pod.namespace} get pods --show-labels`, and correct the selector in the site file"
        )
        raise Unreachable(self.host, f"no pod {where}", fix)

    def _command(self, rights: Rights, seconds: float, token: str, stays: bool) -> str:
        settings = {"namespace": self._pod.namespace, "pod": self._name(), "container": self._pod.container}
        context = f" --context={shlex.quote(self._context)}" if self._context else ""
        quoted = {name: shlex.quote(value) for name, value in settings.items()}
        script = exports(self._kubectl_environment).replace("\n", "; ")
        script += _EXEC.format(context=context, limit=int(seconds + GRACE) + 30, **quoted)
        words = login_shell.clean(login_shell.script_code(seconds, GRACE, token, stays))
        return login_shell.login_command(token, (script, "sh", token, *words), rights)

    def _unstarted(self, exchange: Exchange) -> Unreachable:
        fix = f"check `kubectl -n {self._pod.namespace} get pods -l {self._pod.selector}`; "
        fix += "the container needs sh, env, timeout, head and cksum"
        text = f"scripts can't start in its container (exit code {exchange.code}): {exchange.login_text()}"
        return Unreachable(self.host, text, fix)
