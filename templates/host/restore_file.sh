# Restores a before-image with its bytes, mode, owner and date. Goes after the library of actions. Set before: $path, $source, $sum,
# $mode (in place of its own; "": its own).
(
    umask 077
    enter_folder_of "$path" || exit 1
    path=$folder/$name
    keep_current && open_stage || exit 1
    if ! cp -p -- "$source" ./new || [ "$(checksum ./new)" != "$sum" ]; then
        close_stage
        refuse "$source was changed or is damaged" || exit 1
    fi
    [ -z "$mode" ] || chmod "$mode" ./new || { close_stage; exit 1; }
    set_label
    if record "left $sum $path" && sync_record; then install_new; else close_stage; exit 1; fi
)
