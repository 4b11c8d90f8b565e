"""Make a Qwen2-VL checkpoint of random weights in which kernels dominate.

    python tests/benchmarks/made_up_model.py FOLDER

Its answers mean nothing; its time and its instructions do, because they do not depend on what the
weights are. The vision tower has the width of the real 2B checkpoint (1280), the language model too
(1536), both four layers deep.
Convert it with: labkit convert FOLDER --out DIR --no-parity
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

MIN_PIXELS, MAX_PIXELS = 112 * 112, 560 * 560


def config(tokenizer: Any, *, vision_depth: int, vision_width: int, width: int, layers: int) -> Any:
    """The embedded checkpoint's configuration with other dimensions.

    Heads are 80 wide in the tower and 128 in the language model.
    """
    from train import model_config

    changed = model_config(tokenizer)
    text, tower = changed.text_config, changed.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = width, 4 * width, layers
    text.num_attention_heads, text.num_key_value_heads = width // 128, 2
    text.layer_types = ["full_attention"] * layers
    text.rope_scaling = {**text.rope_scaling, "mrope_section": [16, 24, 24]}
    text.rope_theta = 1e6
    tower.depth, tower.embed_dim, tower.num_heads, tower.hidden_size = (
        vision_depth,
        vision_width,
        vision_width // 80,
        width,
    )
    return changed


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the checkpoint; must not exist yet")
    parser.add_argument(
        "--vision-depth",
        type=int,
        default=4,
        metavar="N",
        help="layers of the vision tower (default 4)",
    )
    parser.add_argument(
        "--vision-width",
        type=int,
        default=1280,
        metavar="N",
        help="its width, a multiple of 80 (default 1280)",
    )
    parser.add_argument(
        "--width",
        type=int,
        default=1536,
        metavar="N",
        help="the language model's width, a multiple of 256 (default 1536)",
    )
    parser.add_argument("--layers", type=int, default=4, metavar="N", help="its layers (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    args = parser.parse_args(argv)
    if args.folder.exists():
        parser.error(f"expected {args.folder} to be free; choose another folder")

    import torch
    from make_tokenizer import make_tokenizer
    from transformers import Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer()
    model = Qwen2VLForConditionalGeneration(
        config(
            tokenizer,
            vision_depth=args.vision_depth,
            vision_width=args.vision_width,
            width=args.width,
            layers=args.layers,
        )
    ).half()
    model.generation_config.do_sample = False
    model.save_pretrained(args.folder)
    tokenizer.save_pretrained(args.folder)
    Qwen2VLImageProcessor(
        min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, patch_size=14, merge_size=2
    ).save_pretrained(args.folder)
    print(f"{args.folder}: {sum(p.numel() for p in model.parameters()):,} parameters")
    print(f"Convert it: labkit convert {args.folder} --out DIR --no-parity")
    return 0


if __name__ == "__main__":
    sys.exit(main())
