"""Side-by-side runs: the project against what an engineer would write without it."""
