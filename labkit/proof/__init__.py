"""Whether the converted model is the same model: parity, scores, pointing, a linear probe."""
