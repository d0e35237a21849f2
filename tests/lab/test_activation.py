"""The activation of a real slurmctld: what it does, what it puts back, and that nobody has to stay for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names, slurm_conf
from dws_on_csm.engine import looks as engine_looks
from dws_on_csm.engine.host_script import BUSY, compile_actions
from dws_on_csm.model.actions import STATE, RunScript
from dws_on_csm.model.step import Facts, ShellLook, StepContext
from dws_on_csm.runner.connections import Sessions, connect_all
from dws_on_csm.runner.journal import identifier
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import activate, controller, plugin, slurmctld, transaction
from dws_on_csm.stages.slurm import stage as slurm_stage
from dws_on_csm.transport.remote_shell import RemoteShell, Result
from lab.model import Lab
from tests.lab.sample import sample
from tests.unit import steps

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
PRIMARY, BACKUP = "slurmctl1", "slurmctl2"
CONF, LUA = "/etc/slurm/slurm.conf", "/etc/slurm/burst_buffer.lua"
UPSTREAM = Path(__file__).parents[2] / "lab/upstream/dws-slurm-bb-plugin/src/burst_buffer"


def now() -> str:
    """A run after all that were at work on a host: one that is named before them would be let in no more."""
    return f"{identifier(time.time())[:-4]}ffff"


# Kills the slurmctld of this host that comes after the process OLD as soon as it is there; a backup's answers only 5 seconds
# later.
KILLER = """
until new=$(systemctl show -p MainPID --value slurmctld); [ "${new:-0}" != 0 ] && [ "$new" != OLD ]; do sleep 0.05; done
kill -9 "$new"
"""

HOLD = """
rm -f /run/go; mkdir -p /run/systemd/system/slurmctld.service.d
cat >/run/systemd/system/slurmctld.service.d/held.conf <<'END'
[Service]
ExecStartPre=sh -c 'until [ -e /run/go ]; do sleep 0.1; done'
END
systemctl daemon-reload
"""
GO = "touch /run/go"
FREE = f"{GO}; rm /run/systemd/system/slurmctld.service.d/held.conf; systemctl daemon-reload"


class Controllers:
    """The two controllers as the stage slurm meets them, and what a test does to them."""

    def __init__(self, site: Site, sessions: Sessions) -> None:
        self.site, self.sessions = site, sessions
        self.touched: set[str] = set()

    def on(self, host: str, command: str, feed: str = "") -> str:
        """A command on a host; its output."""
        told = self.run(host, command, feed.encode())
        assert told.code == 0, (host, command, told)
        return told.out.decode()

    def place(self, host: str) -> StepContext:
        """The host with what the looks find there now."""
        facts = Facts()
        looks = {
            CONTROLLER.name: controller.look,
            slurmctld.FACT.name: slurmctld.look,
            activate.SLURM_CONF.name: activate.look_conf,
        }
        for key, look in looks.items():
            made = look(StepContext(self.site, facts, host))
            facts.found[key] = {host: made.parse(self.run(host, made.script).out)}
        return StepContext(self.site, facts, host)

    def run(self, host: str, script: str, data: bytes = b"") -> Result:
        """A script on a host, through the connection that is kept open."""
        session = self.sessions[host]
        assert isinstance(session, RemoteShell), session
        return session.run(script, data, deadline=300)

    def enabling(self, host: str) -> RunScript:
        """What the step `conf` would do on `host`."""
        place = self.place(host)
        have = activate.current_text(place)
        (action,) = steps.change(slurm_stage.STAGE, "conf", place, have, activate.wanted_text(place, have))
        assert isinstance(action, RunScript)
        return action

    def restarting(self, host: str) -> RunScript:
        """What the step `daemon` would do on `host`."""
        (action,) = steps.change(slurm_stage.STAGE, "daemon", self.place(host), None, None)
        assert isinstance(action, RunScript)
        return action

    def do(self, host: str, action: RunScript) -> Result:
        """Perform one action as the engine does."""
        self.touched.add(host)
        script, data = compile_actions([action], now(), engine_looks.marker())
        return self.run(host, script, data)

    def text(self, host: str) -> str:
        """slurm.conf there."""
        return self.on(host, f"cat {CONF}")

    def daemon(self, host: str) -> slurmctld.Daemon:
        """What the look at the daemon finds there."""
        return slurmctld.state(self.place(host))

    def restart(self) -> None:
        """Both daemons answer, those that were touched after a new start."""
        for host in self.touched:
            self.on(host, "systemctl reset-failed slurmctld; systemctl restart slurmctld")
        self.touched.clear()
        until = time.monotonic() + 120
        while self.on(PRIMARY, "scontrol ping || true").count(" is UP") < 2:
            assert time.monotonic() < until, "the controllers did not come back"
            time.sleep(0.2)


@contextmanager
def held_back(there: Controllers, host: str) -> Iterator[None]:
    """A slurmctld that is to start on `host` does so when GO is given, or the `with` is over."""
    there.on(host, HOLD)
    try:
        yield
    finally:
        there.on(host, FREE)


@pytest.fixture(scope="module")
def controllers(lab: Lab) -> Iterator[Controllers]:
    """Both controllers with the plugin's files, and slurm.conf without a burst buffer."""
    site = load(lab.state / "hosts.yaml")
    sessions = connect_all(site, site.controllers)
    made = Controllers(site, sessions)
    for host in (PRIMARY, BACKUP):
        text = made.text(host)
        if (without := slurm_conf.without_setting(text, activate.KEY)) != text:
            made.on(host, f"cat >{CONF}", feed=without)
            made.touched.add(host)
        made.on(host, f"cat >{LUA}", feed=plugin.with_shim(made.place(host), (UPSTREAM / names.PLUGIN_LUA).read_text()))
        made.on(host, "cat >/etc/slurm/burst_buffer.conf", feed=(UPSTREAM / names.PLUGIN_CONF).read_text())
    made.restart()
    yield made
    sessions.close()


@pytest.fixture
def fresh(controllers: Controllers) -> Iterator[Controllers]:
    """The same before each test: files as they were, both daemons without a burst buffer."""
    kept = {(host, path): controllers.on(host, f"cat {path}") for host in (PRIMARY, BACKUP) for path in (CONF, LUA)}
    yield controllers
    for (host, path), text in kept.items():  # one that is as it was stays: a slurmctld that nobody restarts has read it
        if controllers.on(host, f"cat {path}") != text:
            controllers.on(host, f"rm -f {path}; cat >{path}", feed=text)
    controllers.restart()


def outcome(there: Controllers, host: str) -> str:
    """What the last activation on `host` ended with."""
    return there.on(host, f"sed -n s/^outcome=//p {STATE}/activation").strip()


def leftovers(there: Controllers, host: str) -> str:
    """Files that no activation should leave behind."""
    return there.on(
        host, f"find /etc/slurm -name '.*dws*'; find {STATE} -maxdepth 1 -name 'activation.*' ! -name '*.lock'"
    )


def test_a_good_activation(fresh: Controllers) -> None:
    """slurm.conf has the line, slurmctld answers with the burst buffer, owner and mode are kept, nothing is left over."""
    fresh.on(PRIMARY, f"chown slurm:slurm {CONF}; chmod 640 {CONF}")
    before, told = fresh.text(PRIMARY), fresh.do(PRIMARY, fresh.enabling(PRIMARY))
    assert told.code == 0, told
    assert slurm_conf.without_setting(fresh.text(PRIMARY), activate.KEY).startswith(before.rstrip("\n"))
    assert "BurstBufferType=burst_buffer/lua" in fresh.text(PRIMARY)
    assert "burst_buffer/lua" in fresh.on(PRIMARY, "scontrol show config | grep BurstBufferType")
    assert fresh.on(PRIMARY, f"stat -c '%a %U:%G' {CONF}").strip() == "640 slurm:slurm"
    found = fresh.daemon(PRIMARY)
    assert slurmctld.answers(found) and slurmctld.restart_reasons(fresh.site, found) == []
    assert (outcome(fresh, PRIMARY), leftovers(fresh, PRIMARY)) == ("activated", "")
    assert fresh.on(PRIMARY, f"stat -c %a {STATE}/activation").strip() == "600"


@pytest.mark.parametrize("broken", sample(["function (", "error('no')", "x = 1"], "function (".__eq__))
def test_a_plugin_that_slurmctld_refuses(fresh: Controllers, broken: str) -> None:
    """slurmctld ends with the new text, so the old one is put back, it answers again, and its own words are shown."""
    fresh.on(PRIMARY, f"cat >{LUA}", feed=broken + "\n")
    before, told = fresh.text(PRIMARY), fresh.do(PRIMARY, fresh.enabling(PRIMARY))
    assert told.code == 1
    assert b"fatal: failed to initialize burst_buffer plugin" in told.out
    assert fresh.text(PRIMARY) == before
    assert slurmctld.answers(fresh.daemon(PRIMARY))
    assert (outcome(fresh, PRIMARY), leftovers(fresh, PRIMARY)) == ("reverted", "")


def test_slurm_conf_changed_in_between(fresh: Controllers) -> None:
    """What somebody wrote since the look stays, and slurmctld is not touched."""
    planned, main = fresh.enabling(PRIMARY), fresh.daemon(PRIMARY)["main"]
    fresh.on(PRIMARY, f"echo '# by somebody else' >>{CONF}")
    told = fresh.do(PRIMARY, planned)
    assert told.code == 1
    assert b"run again" in told.out
    assert fresh.text(PRIMARY).endswith("# by somebody else\n")
    assert "BurstBufferType" not in fresh.text(PRIMARY)
    assert fresh.daemon(PRIMARY)["main"] == main
    assert (outcome(fresh, PRIMARY), leftovers(fresh, PRIMARY)) == ("refused", "")


def test_a_daemon_killed_while_it_is_awaited(fresh: Controllers) -> None:
    """A slurmctld that is killed before it answers counts as dead: the old text is put back, and it answers."""
    before = fresh.text(BACKUP)
    fresh.on(BACKUP, "cat >/run/killer", feed=KILLER.replace("OLD", str(fresh.daemon(BACKUP)["main"])))
    fresh.on(BACKUP, "systemd-run --quiet sh /run/killer")
    told = fresh.do(BACKUP, fresh.enabling(BACKUP))
    assert told.code == 1
    assert fresh.text(BACKUP) == before
    assert slurmctld.answers(fresh.daemon(BACKUP))
    assert (outcome(fresh, BACKUP), leftovers(fresh, BACKUP)) == ("reverted", "")


def test_a_daemon_that_does_not_answer_in_time(fresh: Controllers) -> None:
    """One that is alive and silent at the deadline gets the old text, and the run says that it has not answered yet."""
    before = fresh.text(BACKUP)
    fresh.site = replace(fresh.site, deadlines=replace(fresh.site.deadlines, slurmctld=2.0))
    try:
        told = fresh.do(BACKUP, fresh.enabling(BACKUP))
    finally:
        fresh.site = replace(fresh.site, deadlines=replace(fresh.site.deadlines, slurmctld=120.0))
    assert told.code == 1
    assert b"did not respond within 2 s" in told.out
    assert fresh.text(BACKUP) == before
    assert outcome(fresh, BACKUP) == "reverted"


STARTING = "for i in $(seq 600); do ! grep -q starting /run/told || exit 0; sleep 0.1; done; cat /run/told; exit 1"


def test_a_connection_that_breaks_in_the_middle(fresh: Controllers) -> None:
    """The activation goes on without us and ends well; a second one is refused meanwhile; a look tells that it works."""
    looks = transaction.look(fresh.place(BACKUP))
    assert isinstance(looks, ShellLook)
    planned, second = fresh.enabling(BACKUP), fresh.restarting(BACKUP)
    script, data = compile_actions([planned], now(), engine_looks.marker())
    fresh.touched.add(BACKUP)
    fresh.on(BACKUP, "cat >/run/script", feed=script)
    fresh.on(BACKUP, "cat >/run/data", feed=data.decode())
    start = "setsid sh /run/script </run/data >/run/told 2>&1 & echo $!"
    with held_back(fresh, BACKUP):
        pid = fresh.on(BACKUP, start).strip()
        fresh.on(BACKUP, STARTING)
        fresh.on(BACKUP, f"kill -s KILL -- -{pid} && rm /run/script /run/data")
        assert looks.parse(fresh.run(BACKUP, looks.script).out).startswith("running since ")
        refused = fresh.do(BACKUP, second)
        assert refused.code == BUSY
        fresh.on(BACKUP, GO)
        until = time.monotonic() + 180
        while looks.parse(fresh.run(BACKUP, looks.script).out) != "none":
            assert time.monotonic() < until
            time.sleep(0.2)
    assert outcome(fresh, BACKUP) == "activated"
    assert "BurstBufferType=burst_buffer/lua" in fresh.text(BACKUP)
    assert slurmctld.restart_reasons(fresh.site, fresh.daemon(BACKUP)) == []


# A unit as it would be had the host lost its power: nobody is called when it ends.
NO_STOP_POST = """
mkdir -p /run/systemd/system/dws-on-csm-activation.service.d
printf '[Service]\\nExecStopPost=\\n' >/run/systemd/system/dws-on-csm-activation.service.d/power.conf
"""
POWER = "rm -r /run/systemd/system/dws-on-csm-activation.service.d; systemctl daemon-reload"
UNITS = "find /etc/systemd/system -name 'dws-on-csm*'"


def begun(there: Controllers, host: str) -> None:
    """An activation on `host` that nobody follows, up to where slurm.conf is replaced and slurmctld is being started."""
    script, data = compile_actions([there.enabling(host)], now(), engine_looks.marker())
    there.touched.add(host)
    there.on(host, "cat >/run/script", feed=script)
    there.on(host, "cat >/run/data", feed=data.decode())
    pid = there.on(host, "setsid sh /run/script </run/data >/run/told 2>&1 & echo $!").strip()
    there.on(host, STARTING)
    there.on(host, f"kill -s KILL -- -{pid} && rm /run/script /run/data")
    assert "BurstBufferType=burst_buffer/lua" in there.text(host)


def settled(there: Controllers, host: str) -> None:
    """Wait until no activation is at work or pending on `host`."""
    looks = transaction.look(there.place(host))
    assert isinstance(looks, ShellLook)
    until = time.monotonic() + 180
    while looks.parse(there.run(host, looks.script).out) != "none":
        assert time.monotonic() < until
        time.sleep(0.2)


STOP, KILL = "systemctl stop --no-block", "systemctl kill --signal=KILL"


@pytest.mark.parametrize("how", sample([STOP, KILL], KILL.__eq__))
def test_an_activation_that_is_ended_in_the_middle(fresh: Controllers, how: str) -> None:
    """Asked to stop or killed: slurm.conf is the old one again, and slurmctld answers with it; nothing is left."""
    before = fresh.text(BACKUP)
    with held_back(fresh, BACKUP):
        begun(fresh, BACKUP)
        assert "dws-on-csm-activation-boot.service" in fresh.on(BACKUP, UNITS)
        fresh.on(BACKUP, f"{how} dws-on-csm-activation.service")
        fresh.on(BACKUP, GO)
        settled(fresh, BACKUP)
    assert fresh.text(BACKUP) == before
    assert slurmctld.answers(fresh.daemon(BACKUP))
    assert outcome(fresh, BACKUP) == "reverted"
    fresh.on(BACKUP, "while systemctl -q is-active dws-on-csm-activation; do sleep 0.1; done")
    assert fresh.on(BACKUP, UNITS) == ""


def test_a_host_that_loses_its_power_in_the_middle(fresh: Controllers) -> None:
    """When it starts, slurm.conf is put back before slurmctld reads it, by a unit that goes with that."""
    before = fresh.text(BACKUP)
    fresh.on(BACKUP, NO_STOP_POST)
    try:
        with held_back(fresh, BACKUP):
            begun(fresh, BACKUP)
            fresh.on(BACKUP, "systemctl kill --signal=KILL dws-on-csm-activation.service; systemctl stop slurmctld")
            assert "BurstBufferType=burst_buffer/lua" in fresh.text(BACKUP)
            fresh.on(BACKUP, GO)
            # multi-user.target starts both in one go; here the first is queued first, and systemd orders the rest
            order = fresh.on(
                BACKUP, "systemctl daemon-reload; systemctl show --value -p Before dws-on-csm-activation-boot"
            )
            assert "slurmctld.service" in order.split()
            fresh.on(BACKUP, "systemctl start dws-on-csm-activation-boot slurmctld")
    finally:
        fresh.on(BACKUP, POWER)
    assert fresh.text(BACKUP) == before
    settled(fresh, BACKUP)
    assert (outcome(fresh, BACKUP), fresh.on(BACKUP, UNITS), leftovers(fresh, BACKUP)) == ("reverted", "", "")


def test_a_restart_that_fails(fresh: Controllers) -> None:
    """A slurmctld with the burst buffer on that does not come up again runs without it rather than not at all."""
    assert fresh.do(PRIMARY, fresh.enabling(PRIMARY)).code == 0
    fresh.on(PRIMARY, f"echo '(' >{LUA}")
    told = fresh.do(PRIMARY, fresh.restarting(PRIMARY))
    assert told.code == 1
    assert b"BurstBufferType was removed" in told.out
    assert "BurstBufferType" not in fresh.text(PRIMARY)
    assert slurmctld.answers(fresh.daemon(PRIMARY))


def test_slurm_conf_that_is_a_link(fresh: Controllers) -> None:
    """A link stays one: its target is what gets the line."""
    fresh.on(PRIMARY, f"mkdir -p /etc/site; mv {CONF} /etc/site/slurm.conf; ln -s /etc/site/slurm.conf {CONF}")
    assert fresh.do(PRIMARY, fresh.enabling(PRIMARY)).code == 0
    assert fresh.on(PRIMARY, f"readlink {CONF}").strip() == "/etc/site/slurm.conf"
    assert "BurstBufferType=burst_buffer/lua" in fresh.on(PRIMARY, "cat /etc/site/slurm.conf")


def test_a_daemon_is_current_when_it_started_after_its_files(fresh: Controllers) -> None:
    """burst_buffer.conf written after the start makes it stale, within the same second too; a restart mends that."""
    assert fresh.do(PRIMARY, fresh.enabling(PRIMARY)).code == 0
    assert slurmctld.restart_reasons(fresh.site, fresh.daemon(PRIMARY)) == []
    fresh.on(PRIMARY, "systemctl restart slurmctld; printf '# x\\n' >>/etc/slurm/burst_buffer.conf")
    (why,) = slurmctld.restart_reasons(fresh.site, fresh.daemon(PRIMARY))
    assert why.text == "/etc/slurm/burst_buffer.conf changed after slurmctld read it"
    assert fresh.do(PRIMARY, fresh.restarting(PRIMARY)).code == 0
    assert slurmctld.restart_reasons(fresh.site, fresh.daemon(PRIMARY)) == []
