"""Mutants with a name, each once survived: what must never get lost unnoticed. And which tests cover which file."""

from __future__ import annotations

from dataclasses import dataclass

from dws_on_csm.config.load import ROOT
from tests.mutants.made import Mutant
from tests.unit import listed


@dataclass(frozen=True)
class Named:
    """A text of a file, and what stands there instead."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def mutant(self) -> Mutant:
        """The file's text with that change. ValueError where the text is not there exactly once."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has this text {text.count(self.old)} times: {self.old}")
        return Mutant(self.file, self.name, text.replace(self.old, self.new))


_OF_PUT = "test_host_script test_hostile"
_OF_ACTIVATION = "test_transaction test_transaction_cut"
NAMED = (
    Named("lock never renewed", "dws_on_csm/engine/site_lock.py",
          "threading.Thread(target=lock.keep,", "threading.Thread(target=lambda: None,",
          "test_site_lock"),
    Named("lock renewed whoever holds it", "templates/master/lock_renew.sh",
          'if [ "$holder" != "$run" ]; then cat lock/holder; exit 3; fi', ":", "test_site_lock"),
    Named("lock released whoever holds it", "templates/master/lock_release.sh",
          'if [ "$(line 3)" != "$run" ]; then exit 0; fi', ":", "test_site_lock"),
    Named("lock taken without the gate", "templates/master/lock.sh",
          "if ! flock -w 20 9; then", "if false; then", "test_lock_scripts"),
    Named("lock lost, and changes made", "dws_on_csm/engine/perform.py",
          "last = number == len(groups) - 1\n        reach.guard()", "last = number == len(groups) - 1", "test_apply"),
    Named("lock of a reused number never taken over", "dws_on_csm/engine/site_lock.py",
          "started is not None and started != holder.identity[1]", "False", "test_site_lock"),
    Named("lock taken over from another machine", "dws_on_csm/engine/site_lock.py",
          " or holder.identity[0] != mine[0]", "", "test_site_lock"),
    Named("what another run changed meanwhile not looked at", "dws_on_csm/runner/locked.py",
          "if lock.former or lease.elsewhere or lock.before >= run.looked:", "if False:",
          "test_site_lock"),
    Named("a run that may come back not shut out", "dws_on_csm/runner/locked.py",
          "        if lock.former or lease.former:\n            _shut_out(run)\n", "",
          "test_fence"),
    Named("a rollback that failed holds nothing back", "dws_on_csm/runner/run_log.py",
          "min([changing[-keep].id, *_unfinished(changing[-keep:], own)])", "changing[-keep].id", "test_run_log"),
    Named("old runs go whether this one ended well or not", "dws_on_csm/runner/run_log.py", "if end.exit == CONVERGED and", "if",
          "test_run_log"),
    Named("what is left is left without the lock", "dws_on_csm/runner/run.py",
          "        with holding:\n            shown", "        if holding.close() is None:\n            shown", "test_run_log"),
    Named("fence without the lock", "templates/lib/fence.sh",
          '[ "$(sed -n 3p "$STATE/lock/holder" 2>/dev/null)" != "$RUN" ]', "false",
          "test_fence"),
    Named("fence without the order of runs", "templates/lib/fence.sh", '[ "$last" \\> "$RUN" ]', "false", "test_fence"),
    Named("a run named by the operator's clock", "templates/master/lock_take.sh", '[ "$began" \\> "$(stamp "$now")" ] ||', "",
          "test_site_lock"),
    Named("put without chown", "dws_on_csm/engine/host_script.py", 'if ! chown -h -- "$3" ./new || ! chmod', "if ! chmod", _OF_PUT),
    Named("put without chmod", "dws_on_csm/engine/host_script.py", ' || ! chmod -- "$2" ./new; then', "; then", _OF_PUT),
    Named("put without sync", "templates/lib/safe_file.sh", "if ! sync -- ./new || ! mv", "if ! mv", _OF_PUT),
    Named("activate without comparing what was written", "templates/controller/activate.sh",
          ' && cat -- "$1" >./new && [ "$(sum ./new)" = "$(sum "$1")" ]; then', ' && cat -- "$1" >./new; then',
          _OF_ACTIVATION),
    Named("activate without comparing what was there", "templates/controller/activate.sh",
          ' && [ "$(sum ./new)" = "$2" ] &&', " &&",
          _OF_ACTIVATION),
    Named("activate without sync of its undo record", "templates/controller/activate.sh", 'sync -- "$work" && ln -s', "ln -s",
          _OF_ACTIVATION),
    Named("activate without reset-failed", "templates/controller/activate.sh", 'systemctl reset-failed "$unit" 2>/dev/null', ":",
          _OF_ACTIVATION),
    Named("activate without closing fd 8", "templates/controller/activate.sh",
          '7>&- 8>&- 9>&- &', "7>&- 9>&- &", _OF_ACTIVATION),
    Named("restore_file without its checksum", "templates/host/restore_file.sh",
          ' || [ "$(checksum ./new)" != "$sum" ]; then', "; then",
          "test_rollback test_rollback_secrets test_hostile test_full_disk"),
    Named("host_record.sh telling the kubeconfig", "templates/host/host_record.sh", "if withheld; then content='?'; fi", ":",
          "test_rollback_secrets test_rollback"),
    Named("test_job.sh clearing nothing away", "templates/controller/test_job.sh",
          'if [ -z "$over" ]; then clear_away >/dev/null 2>&1; fi', ":",
          "test_verify_job"),
    Named("test_job.sh cancelling nothing", "templates/controller/test_job.sh",
          'slurm timeout 30 scancel --hurry --quiet "$1"\n', ":\n", "test_verify_job"),
    Named("test_job.sh trusting a number", "templates/controller/test_job.sh",
          'case $(job_says UserId "$1") in *"($user_number)") ;; *) return 1 ;; esac', "true", "test_verify_job"),
    Named("a record moved into place unmeasured", "templates/lib/durable.sh",
          'if cat >"$1.part" && [ "$(stat -c %s -- "$1.part")" = "$2" ] &&', 'if cat >"$1.part" &&', "test_full_disk"),
    Named("before-image not kept, change made", "dws_on_csm/engine/perform.py", "before_images.keep(reach, reporter, touched)",
          "pass", "test_full_disk test_apply"),
)  # fmt: skip

TESTS = {
    "dws_on_csm/engine/perform.py": "test_apply test_full_disk test_upload",
    "dws_on_csm/engine/before_images.py": "test_full_disk test_rollback test_rollback_states",
    "dws_on_csm/redaction/redact.py": "test_redact",
    "dws_on_csm/redaction/known_secrets.py": "test_redact",
    "dws_on_csm/redaction/secret_names.py": "test_redact",
    "dws_on_csm/redaction/named_values.py": "test_redact",
    "dws_on_csm/domain/slurm_conf.py": "test_slurm_conf test_activate",
    "dws_on_csm/runner/run_log.py": "test_run_log test_full_disk",
    "dws_on_csm/runner/run.py": "test_run test_run_log test_site_lock test_fence",
    "dws_on_csm/runner/locked.py": "test_run test_site_lock test_fence",
    "dws_on_csm/engine/host_script.py": "test_host_script test_apply test_upload",
    "dws_on_csm/transport/output.py": "test_output test_channel",
    "dws_on_csm/runner/journal.py": "test_journal test_full_disk test_run_log",
    "templates/controller/activate.sh": _OF_ACTIVATION,
    "templates/lib/as.sh": "test_bounded test_hostile_slurm_user",
    "templates/host/host_record.sh": "test_rollback_secrets",
    "templates/lib/fence.sh": "test_fence test_upload",
    "templates/host/history.sh": "test_run_log test_full_disk",
    "dws_on_csm/engine/site_lock.py": "test_site_lock",
    "templates/master/lock.sh": "test_site_lock test_lock_scripts",
    "templates/master/lock_holder.sh": "test_site_lock test_lock_scripts test_at_work",
    "templates/master/lock_release.sh": "test_site_lock test_lock_scripts",
    "templates/master/lock_renew.sh": "test_site_lock test_lock_scripts",
    "templates/master/lock_take.sh": "test_site_lock test_lock_scripts",
    "templates/host/restore_file.sh": "test_rollback_secrets test_hostile test_host_script test_full_disk",
    "templates/lib/safe_file.sh": "test_host_script test_hostile",
    "templates/controller/test_job.sh": "test_verify_job",
    "templates/lib/durable.sh": "test_full_disk test_run_log",
}
"""File -> the files of tests/unit that cover it."""


def paths(stems: str) -> list[str]:
    """The paths of test files, from the root on."""
    return [str(listed.path(one).relative_to(ROOT)) for one in stems.split()]
