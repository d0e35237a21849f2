# Prints what this host knows about earlier runs, a line each: "opened RUN {...}": who began it; "step RUN STAGE.STEP": a step that
# began here or in the cluster; "log TIME RUN ...": how a run ended; "event RUN {...}": an event of a journal, without differences.
# Set before: $state
cd "$state" 2>/dev/null || exit 0
# each SCRIPT FILE: print sed's output, each line once; fails if the file could not be read completely, which a pipe would hide
each() { each_=$(sed -n "$1" "$2") && printf '%s\n' "$each_" | sort -u | sed '/^$/d'; }
last=
for folder in before/*/; do
    [ -d "$folder" ] || continue
    run=${folder#before/}
    run=${run%/}
    [ ! -e "$folder.opened" ] || sed -n "s/^{/opened $run {/p" "$folder.opened" || exit 1
    [ ! -e "$folder.record" ] || each "s/^step /step $run /p" "$folder.record" || exit 1
    [ ! -e runs.log ] || last=$(sed -n "/ $run /s/^/log /p" runs.log) || exit 1
    [ -z "$last" ] || printf '%s\n' "$last" | tail -n 1
    [ ! -e "$folder.objects" ] || each "s/^{.*\"step\": \"\\([^\"]*\\)\".*/step $run \\1/p" "$folder.objects" || exit 1
done
for journal in runs/*; do
    [ -f "$journal" ] || continue
    events=$(sed -n -E '/^\{"event": "(opened|summary)"|"outcome": "(changed|fixed|failed)"/p' "$journal") || exit 1
    [ -z "$events" ] || printf '%s\n' "$events" | sed -e '/^{"event": "done"/s/, "began": .*/}/' -e "s|^|event ${journal#runs/} |"
done
