"""Inside the deployed model: embeddings, hidden states, Q, K, attention, beside the original's."""
