# A file's content, and which file it is: on a shared file system its number and the time of its last change are the same
# wherever it is seen, and of two files they are not.
[ -r "$file" ] || exit 0
stat -L -c '%i %.9Z' -- "$file"
base64 -w 0 <"$file"
