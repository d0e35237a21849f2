[ ! -r "$file" ] || base64 -w 0 <"$file"
