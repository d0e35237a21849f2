"""What the other packages speak of: steps, actions, events, secrets, errors."""
