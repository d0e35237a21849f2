# What is known on this host of earlier runs, a line each: "opened RUN {...}" by whoever began one, "step RUN STAGE.STEP" for
# what was begun here or in the cluster, "log TIME RUN ..." for what a run said at its end, and "event RUN {...}" for what a
# journal that came here says, without its differences.
# Set before: $state
cd "$state" 2>/dev/null || exit 0
# each SCRIPT FILE: what sed says of it, each line once; a pipe alone would not tell that it could not be read to its end
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
