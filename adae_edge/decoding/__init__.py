"""From the bytes of a file to a frame, for training and scoring alike."""
