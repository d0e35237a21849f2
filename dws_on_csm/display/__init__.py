"""What a run shows: on a terminal, as plain lines, as JSON, as a page."""
