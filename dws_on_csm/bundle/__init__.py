"""What comes from outside the site, and the offline bundle."""
