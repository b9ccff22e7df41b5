"""What the night brings: faults that are done to the real command, and what was seen."""
