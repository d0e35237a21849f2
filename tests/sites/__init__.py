"""What real sites have, each form run against real servers: the tool works where the site's own programs do."""
