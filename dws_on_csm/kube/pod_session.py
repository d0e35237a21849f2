"""A pod's container, reached with kubectl exec on the master: the same `sh -s with this stdin` as on any host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dws_on_csm.config.site import Pod
from dws_on_csm.kube import pods
from dws_on_csm.kube.master_session import MasterSession
from dws_on_csm.model import render
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import bootstrap
from dws_on_csm.transport.channel import Exchange, ExecRequest
from dws_on_csm.transport.output import LineSink, Stream
from dws_on_csm.transport.remote_shell import RemoteShell, token
from dws_on_csm.transport.session import Session
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from paramiko import Channel

# kubectl would keep what it learns of the API in the admin's home; a plan leaves nothing there.
_EXEC = """{exports}cache=$(mktemp -d /dev/shm/dws-on-csm.XXXXXX) || exit
vanishing "$cache"
timeout --foreground -k 5 {limit} \\
    kubectl{context} --cache-dir "$cache" exec --stdin --namespace {namespace} {pod} --container {container} -- sh -c {command}
exit $?
"""


class PodSession(Session):
    """The container of `pod`, through the connection to the master. `environment` is what its scripts see, `outer` what
    kubectl does.

    The pod is found anew for each script: after a rollout it is another one.
    """

    def __init__(
        self,
        name: str,
        pod: Pod,
        master: MasterSession,
        environment: Mapping[str, str],
        outer: Mapping[str, str],
        context: str,
    ) -> None:
        RemoteShell.__init__(self, name, environment, master._password)  # there is no connection to be made
        self.commands = 0
        self.connects = 0
        self._pod = pod
        self._master = master
        self._outer = outer
        self._places = master._places
        self._context = context

    def open(self, seconds: float) -> None:
        """Raises Unreachable where no such pod runs, or several do."""
        self._name()

    def channel(self) -> Channel:
        """A channel of the master's connection; the master counts it."""
        return self._master.channel()

    def close(self) -> None:
        """The connection is the master's to close."""

    def _name(self) -> str:
        """The name of the one pod that runs. Raises Unreachable."""
        try:
            found = pods.running(self._master.cluster(), self._pod)
        except ClusterError as error:
            raise Unreachable(
                self.host, f"its pod can't be looked up: {error}", "see `kubectl get nodes` on the master"
            ) from error
        if len(found) == 1:
            return str(found[0]["metadata"]["name"])
        names = ", ".join(one["metadata"]["name"] for one in found)
        where = f"with {self._pod.selector} runs in namespace {self._pod.namespace}"
        if found:
            text, fix = (
                f"more than one pod {where}: {names}",
                "narrow its selector in the site file, and list each as a controller",
            )
        else:
            text, fix = (
                f"no pod {where}",
                f"`kubectl -n {self._pod.namespace} get pods --show-labels`; correct the site file",
            )
        raise Unreachable(self.host, text, fix)

    def _order(
        self, rights: Rights, body: bytes, data: bytes, seconds: float, line: LineSink | None, stay: bool = False
    ) -> tuple[ExecRequest, Exchange]:
        mark = token()
        inner = bootstrap.command(len(body), seconds, mark)
        settings = {
            "namespace": self._pod.namespace,
            "pod": self._name(),
            "container": self._pod.container,
            "command": inner,
        }
        context = f" --context={shlex.quote(self._context)}" if self._context else ""
        quoted = {name: shlex.quote(value) for name, value in settings.items()}
        # the script in the container has its own deadline; of a kubelet that never answers kubectl would wait for ever
        outer = render.read("lib/vanishing.sh") + _EXEC.format(
            exports=bootstrap.exports(self._outer), context=context, limit=int(seconds + bootstrap.GRACE) + 30, **quoted
        )
        command = shlex.join(("exec", *rights.words, "sh", "-c", outer))
        order = ExecRequest(mark, command, body, data, line, rights.prompt, rights.password, stay)
        return order, Exchange(Stream(mark, line), Stream(mark, line))

    def _unstarted(self, talk: Exchange) -> Unreachable:
        look = f"kubectl -n {self._pod.namespace} get pods -l {self._pod.selector}"
        text = f"no script can be started in its container (exit code {talk.code}): {talk.said()}"
        return Unreachable(self.host, text, f"see `{look}`: this needs sh, head and timeout in the container")
