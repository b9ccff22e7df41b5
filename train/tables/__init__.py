"""The paper's tables: a training for each class and seed, and what became of them."""
