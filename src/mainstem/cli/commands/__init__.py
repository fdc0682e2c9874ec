"""The commands: signatures, help and examples. What they do is imported when they run."""
