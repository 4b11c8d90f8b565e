"""Inside the deployed model: patch embeddings, hidden states, Q, K and attention, beside the original's."""
