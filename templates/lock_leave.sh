# Leave the lock (lock.sh), if $run holds it.
if [ "$(line 3)" != "$run" ]; then exit 0; fi
rm -rf lock.old
touch gate
mv -T lock lock.old
sync .
rm -rf lock.old
