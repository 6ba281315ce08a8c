"""What can be done to a function: one file a transform."""
