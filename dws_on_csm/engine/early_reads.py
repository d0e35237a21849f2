"""Looks at the Kubernetes API that need no fact: they are made while the shell looks of the same host run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from dws_on_csm.config.site import Site
from dws_on_csm.model.cluster_api import Cluster, ClusterError
from dws_on_csm.model.errors import MALFORMED
from dws_on_csm.model.step import ApiLook, Check, Fact, Facts, NotYetKnown, Step, StepContext, T, Value


class _NoFacts(Facts):
    """Facts of which none is known. `asked`: whether one was asked for, which code that can do without it would hide."""

    asked = False

    def known(self, fact: Fact[T]) -> Mapping[str, T]:
        self.asked = True
        raise NotYetKnown(fact.stage)

    at_first = known


class EarlyReads:
    """What the API looks of `items` that need no fact return, read in a thread of its own. Nothing is stored: the caller makes all
    looks in their order afterwards, and asks here first.

    The thread ends with the look that is being made when `over` is called: who no longer wants the answers does not wait.
    """

    def __init__(
        self, site: Site, host: str, items: Mapping[str, Step | Check], cluster: Callable[[], Cluster]
    ) -> None:
        self._answers: dict[str, Future[Value]] = {}
        self._over = False
        looks = [(key, *found) for key, item in items.items() if (found := _independent(site, host, item))]
        self._thread = threading.Thread(target=self._read, args=(looks, cluster), name=f"api of {host}", daemon=True)
        if looks:
            self._thread.start()

    def _read(self, looks: Sequence[tuple[str, ApiLook, _NoFacts]], cluster: Callable[[], Cluster]) -> None:
        for key, look, facts in looks:
            answer: Future[Value] = Future()
            try:
                answer.set_result(look.read(cluster()))
            except Exception as error:  # noqa: BLE001  # `take` raises it
                answer.set_exception(error)
            if self._over:
                return
            if not facts.asked:
                self._answers[key] = answer
            if (failure := answer.exception()) and not _of_one_look(failure):
                return

    def over(self) -> None:
        """Make no further look."""
        self._over = True

    def all(self) -> dict[str, Future[Value]]:
        """What came of each look, by key, once all are made; one that is missing is still to be made."""
        if self._thread.ident:
            self._thread.join()
        return self._answers


def _independent(site: Site, host: str, item: Step | Check) -> tuple[ApiLook, _NoFacts] | None:
    facts = _NoFacts()
    try:
        look = item.look(StepContext(site, facts, host))
    except Exception:  # noqa: BLE001  # it is asked again with the facts, and that reports the error
        return None
    return (look, facts) if isinstance(look, ApiLook) and not facts.asked else None


def _of_one_look(error: BaseException) -> bool:
    """Whether the next look may well succeed: the server has answered."""
    return bool(error.status) if isinstance(error, ClusterError) else isinstance(error, (*MALFORMED, NotYetKnown))
