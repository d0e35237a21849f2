"""A whole run: files in an order that keeps all workers busy to the end, and no lab left behind, however it ends."""

import os
import signal
from pathlib import PurePath

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

RUN = "DWS_ON_CSM_TEST_RUN"
"""In the environment of a run and of all that it starts: what its labs are marked with."""

# What takes longest comes first, so that no worker is left with it at the end; what needs no lab fills the rest.
LONGEST = (
    "test_rollback",
    "test_kill",
    "test_upgrade",
    "test_doctor",
    "test_bad_input",
    "test_pods",
    "test_csm",
    "test_certificates",
    "test_verify",
    "test_undeploy",
    "test_lab",
    "test_drift",
    "test_offline",
    "test_install",
    "test_secrets",
    "test_cert_manager",
    "test_adoption",
    "test_nights",
    "test_lab_pod",
    # without a lab
    "test_persistent_storage_api",
    "test_lock_scripts",
    "test_transaction_cut",
    "test_fake_dws",
    "test_storage",
    "test_rollout",
    "test_run",
    # in `make fast`
    "test_command_line",
    "test_templates",
    "test_ssh_answers",
    "test_redact",
    "test_signing",
    "test_apply",
    "test_console",
)
# An install from nothing is made once for both.
TOGETHER = {"tests/lab/test_secrets.py": "tests/lab/test_install.py"}

LABS = ("gw0", "gw1")
"""Workers with a lab that stays up from file to file. While these wait for pods, any other worker is at what needs none."""
BY_ITSELF = ("test_pods", "test_csm", "test_cert_manager", "test_lab_pod", "test_releases")
"""Files that bring up a lab of their own, and end it."""


def pytest_configure(config: pytest.Config) -> None:
    """The process that a run begins with marks it, and ends as by Ctrl-C when it is asked to end.

    Started in the background, this ignores Ctrl-C, and so would all that tests start: a shell can't even trap it then.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = str(os.getpid())
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Takes away the labs of workers that did not come to do it themselves."""
    from lab import lifecycle, registry

    if not hasattr(config, "workerinput"):
        for lab in registry.all_labs():
            mark = lab.state / "run"
            if mark.exists() and mark.read_text() == os.environ[RUN]:
                lifecycle.down(lab)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by file: the longest, the others with a lab, the rest."""
    last = len(LONGEST)

    def place(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.stem
        return item.get_closest_marker("lab") is None, LONGEST.index(name) if name in LONGEST else last

    items.sort(key=place)


class Scheduling(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """A file's tests go to one worker, and those of files that share what they begin with too."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """A worker gets what needs the lab that it has, or does without the one that it has not, as long as there is any."""
        first = next((file for file in self.workqueue if _spared(file) == (node.gateway.id not in LABS)), None)
        if first:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def _spared(file: str) -> bool:
    """Whether no lab has to be there before this file's tests begin."""
    return not file.startswith("tests/lab/") or PurePath(file).stem in BY_ITSELF


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """How tests are given to workers, where there are several."""
    return Scheduling(config, log)
