# Restores a before-image with its bytes, mode, owner and date. Goes after the library of actions. Set before: $path, $source, $sum.
(
    umask 077
    into "$path" || exit 1
    path=$folder/$name
    kept && staged || exit 1
    if ! cp -p -- "$source" ./new || [ "$(checksum ./new)" != "$sum" ]; then
        unstaged
        refused "$source was changed or is damaged" || exit 1
    fi
    labelled
    if record "left $sum $path" && recorded; then placed; else unstaged; exit 1; fi
)
