"""The embedded checkpoint's world, tokenizer, training and scoring.

`world` draws scenes and knows every answer, `tokens` makes the tokenizer,
`train` makes the checkpoint, `evaluate` scores it. Only `tokens`, `train` and
the transformers side of `evaluate` import torch or transformers.
"""
