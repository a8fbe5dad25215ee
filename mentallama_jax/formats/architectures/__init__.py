"""What each architecture is called in other formats: its config keys and the names of its parameters."""
