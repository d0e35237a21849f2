"""`invoke discover`: looks at a site through its master, and writes the site file."""
