# What the looks at the clone of DWS begin with: enters $clone, and finds out once for all of them whether it may be used. Sets
# $entered (yes, or ""), and where that could be found out $judged=yes and $open, the first path that others than root can write.
# Goes after as.sh and git.sh.
entered= judged= open=
if cd "$clone" 2>/dev/null; then
    entered=yes
    if open=$(first_writable "$clone" 2>/dev/null); then judged=yes; fi
fi
# only_roots: whether there is a clone, and only root can write everything in it; not where that cannot be found out
only_roots() { [ "$entered/$judged/$open" = yes/yes/ ]; }
