# A file's content, and which file it is: on a shared file system its number and the time of its last change are the same
# wherever it is seen, and of two files they are not. Goes behind safe_file.sh.
[ -e "$file" ] || exit 0
stated '%i %.9Z' "$file" || exit 1
peek "$file" base64 -w 0
