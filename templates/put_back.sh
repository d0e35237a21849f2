# A before-image put back: its bytes, mode, owner and date. Goes behind the library of actions. Set before: $path, $source, $sum
path=$(real "$path")
name=${path##*/}
folder=${path%/*}
[ "$(sha256sum <"$source" | cut -d' ' -f1)" = "$sum" ] || { echo "$source is not what it was"; exit 1; }
keep "$path"
left "$sum" "$path"
mine="$folder/.$name.dws-on-csm.$(uname -n)"
rm -f -- "$mine".*
cp -p -- "$source" "$mine.$$"
if command -v restorecon >/dev/null 2>&1; then restorecon -- "$mine.$$" || true; fi
mv -f -- "$mine.$$" "$path"
