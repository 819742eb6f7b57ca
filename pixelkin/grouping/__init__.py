"""Pure functions from embeddings and references to masks."""
