"""The site file, read and checked."""
