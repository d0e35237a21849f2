"""What is checked before anything is changed."""
