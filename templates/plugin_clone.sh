# Cloned aside and renamed: a clone that was cut off never looks like a whole one.
export GIT_TERMINAL_PROMPT=0
eval "set -- $urls"
mkdir -p -- "${clone%/*}"
for url; do
    rm -rf -- "$clone.part"
    echo "cloning $url"
    if git clone --quiet "$url" "$clone.part" && git -C "$clone.part" -c advice.detachedHead=false checkout --quiet "$tag"; then
        rm -rf -- "$clone"
        mv -- "$clone.part" "$clone"
        exit 0
    fi
done
rm -rf -- "$clone.part"
exit 1
