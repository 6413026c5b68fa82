"""Numbers from labels and texts, with their intervals and signatures."""
