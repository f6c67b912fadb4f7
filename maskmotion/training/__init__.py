"""Training: one loop for every stage, an averaged teacher, exact resume."""
