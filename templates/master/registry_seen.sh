# What the looks at the site's registry begin with: asks it once for all of them. Sets $registry_seen to what registry.py's `look`
# prints of $images, or to "" where it prints nothing that can be used. Goes after registry.sh; $record: the file of pushed images.
# $images is empty before DWS's manifests were read: then for the images that were pushed the last time, mostly the same ones.
[ -n "$images" ] || images=$(cut -d' ' -f1 "$record" 2>/dev/null) || true
# a look that finds nothing here asks by itself, so that it fails with the words of what is wrong
# shellcheck disable=SC2086  # a word for each image
registry_seen=$(ask_registry look $images 2>/dev/null) || registry_seen=
