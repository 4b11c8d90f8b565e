"""The model: pictures made ready, checkpoints, conversion to MNN, and questions to the result."""
