"""Causes before consequences: the table, and which finding follows from which."""

from __future__ import annotations

from dws_on_csm.commands.doctor import causes
from dws_on_csm.config import acceptable


def test_each_name_of_the_table_is_a_finding() -> None:
    """A finding that gets another name is renamed in the table as well."""
    names = {name for row in causes.TABLE for name in (row.cause, *row.followers)}
    assert names <= {*acceptable.ACCEPTABLE, *acceptable.WHY_NOT}
    assert all(row.why for row in causes.TABLE)


def test_no_finding_follows_from_itself() -> None:
    """The table has no circle: each cause is the consequence of earlier rows alone."""
    later = {row.cause for row in causes.TABLE}
    for row in causes.TABLE:
        assert row.cause in later, f"{row.cause} has two rows"
        later.remove(row.cause)
        followed = {follower for other in causes.TABLE if other.cause in later for follower in other.followers}
        assert row.cause not in followed, f"the row of {row.cause} belongs behind the rows from which it follows"


def test_a_finding_follows_from_the_first_cause_of_all() -> None:
    """A webhook without pods, whose pods lack an object that the webhook's missing cert-manager would have made."""
    present = [("m", name) for name in ("webhook-not-answering", "pods-not-ready", "objects-missing")]
    assert causes.roots(present) == dict.fromkeys(present[:2], ("m", "objects-missing"))
    every = [*present, ("m", "cert-manager-missing")]
    assert causes.roots(every) == dict.fromkeys(present, ("m", "cert-manager-missing"))


def test_a_cause_on_one_host_explains_nothing_on_another() -> None:
    """Unless the row says that it does: two controllers have a kubeconfig each, and one API server."""
    one, other = ("c1", "certificate-expired"), ("c2", "kubeconfig-refused")
    assert causes.roots([one, other]) == {}
    assert causes.roots([one, other, ("c1", "kubeconfig-refused")]) == {("c1", "kubeconfig-refused"): one}
    cluster, reach = ("m", "cluster-unreachable"), ("c1", "api-unreachable")
    assert causes.roots([reach, cluster]) == {reach: cluster}


def test_what_another_version_brings_along_follows_from_it() -> None:
    """After a rollback to an older DWS the binding has that version's role: install the site file's version, or name that one."""
    cause = ("m", "other-version")
    present = [("m", name) for name in ("binding-wrong", "role-lacks-rights", "objects-missing")]
    assert causes.roots([*present, cause]) == dict.fromkeys(present, cause)


def test_a_kubeconfig_that_is_cut_off_is_one_cause() -> None:
    """What it lacks besides follows, and so does what kubectl cannot reach with it."""
    cause = ("c1", "certificate-missing")
    present = [("c1", name) for name in ("kubeconfig-server", "kubeconfig-ca", "kubeconfig-broken", "api-unreachable")]
    assert causes.roots([*present, cause]) == dict.fromkeys(present, cause)


def test_pods_that_do_not_start_follow_from_a_changed_deployment() -> None:
    """An image that somebody set by hand, or no replicas: the repair of the objects is the only fix that is needed."""
    cause = ("m", "objects-differ")
    present = [("m", name) for name in ("pods-not-ready", "webhook-not-answering")]
    assert causes.roots([*present, cause]) == dict.fromkeys(present, cause)
