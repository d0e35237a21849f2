"""Secrets taken out of what is shown, written or sent."""
