# Which Workflows the plugin deleted although Teardown had not run, or had failed, by slurmctld's log since $days days ago: it logs an
# error of its teardown, and deletes all the same. Prints "left=WORKFLOW TIME ERROR" lines, one for a Workflow and at most $reported;
# no ERROR: the plugin read the error of the former state. Where the deletion failed, too, Slurm tries again with the same Workflow;
# one that is not found was deleted by somebody else. Goes after as.sh and slurmctld.sh. Set before: $folder, $unit, $days, $reported,
# $in_pod ("yes", or empty).
find_slurm
log=$(log_file)
most=50000001 # bytes that root passes on of SlurmUser's output: see bounded.sh
from=$(date -d "-$days days" +%Y-%m-%dT%H:%M:%S)
# slurm.conf names the log and SlurmUser writes it: it could be any file, so root must not read it; of a large one its end
entries() {
    if [ -n "$log" ]; then
        slurm timeout 30 tail -c 50000000 -- "$log" 2>/dev/null
    elif [ -z "$in_pod" ] && command -v journalctl >/dev/null; then
        timeout -k 3 30 journalctl --quiet --no-pager --unit "$unit" --since "-${days}days" --output short-iso 2>/dev/null | head -c 50000000
    fi || :
}
# The drivers' errors are in the lines after that of the plugin, which have no time.
entries | cut -c -2000 | awk -v from="$from" -v most="$reported" '
function tell() {
    if (workflow != "" && error !~ /not found/ && told < most && at >= from && !seen[workflow]++) {
        print "left=" workflow " " at " " error
        told++
    }
    workflow = ""
}
workflow != "" && index($0, "slurm_bb_job_teardown(), workflow=" workflow ", delete: ") { workflow = "" }
# in the journal each line has its time; a further line of an entry has no beginning of slurmctld there
{ further = !/^\[/ && !sub(/^[0-9-]+T[^ ]+ [^ ]+ [^ ]+: ?(slurmctld: |slurmscriptd: |\[)/, "&") }
!further || /slurm_bb_|lua: / { tell() }
workflow != "" && further {
    line = $0
    sub(/^[0-9-]+T[^ ]+ [^ ]+ [^ ]+: ?/, "", line)
    if (error == "" && line ~ /[^ \t]/) error = line
    next
}
/error: .*slurm_bb_job_teardown\(\), workflow=bb[0-9]+: / && !/: unable to check driver errors:/ {
    at = $1
    gsub(/\[|\]/, "", at)
    at = substr(at, 1, 19)
    workflow = $0
    sub(/.*slurm_bb_job_teardown\(\), workflow=/, "", workflow)
    sub(/:.*/, "", workflow)
    error = $0
    sub(/.*slurm_bb_job_teardown\(\), workflow=bb[0-9]+: */, "", error)
    sub(/.*DWS driver error\(s\): */, "", error)
}
END { tell() }
'
