"""What each command does: options in, text out."""
