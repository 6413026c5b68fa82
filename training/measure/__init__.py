"""What a run will need and what it has learned: memory and time, the data path, the clues."""
