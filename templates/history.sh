# What is known on this host of earlier runs, a line each: "opened RUN {...}" by whoever began one, "step RUN STAGE.STEP" for
# what was begun here or in the cluster, "log TIME RUN ..." for what a run said at its end, and "event RUN {...}" for what a
# journal that came here says, without its differences.
# Set before: $state
cd "$state" 2>/dev/null || exit 0
for folder in before/*/; do
    run=${folder#before/}
    run=${run%/}
    [ ! -e "$folder.opened" ] || sed -n "s/^{/opened $run {/p" "$folder.opened"
    [ ! -e "$folder.record" ] || sed -n "s/^step /step $run /p" "$folder.record" | sort -u
    [ ! -e runs.log ] || grep -F " $run " runs.log | tail -n 1 | sed 's/^/log /'
    [ ! -e "$folder.objects" ] || sed -n "s/^{.*\"step\": \"\\([^\"]*\\)\".*/step $run \\1/p" "$folder.objects" | sort -u
done
for journal in runs/*; do
    [ -f "$journal" ] || continue
    grep -E '^\{"event": "(opened|summary)"|"outcome": "(fixed|failed)"' "$journal" |
        sed -e '/^{"event": "done"/s/, "began": .*/}/' -e "s|^|event ${journal#runs/} |"
done
