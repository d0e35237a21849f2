"""What each step wants; knows no engine."""
