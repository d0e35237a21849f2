# A registry that is read-only or full reports that before any image is pulled.
ask_registry writable "$repository"
