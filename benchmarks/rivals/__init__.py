"""What else scores frames on a CPU, timed beside adae-edge: each from an environment of its own."""
