"""labkit: the helper package of the lab kit "how a vision-language model runs on Arm".

Importing it loads neither torch, MNN nor ipywidgets; each part loads what it needs when it is used.

>>> import labkit
>>> model = labkit.open_model("mini")                    # doctest: +SKIP
>>> model.ask("scene.png", "What is left of the pizza?") # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.proof.ready import Answer, Model, open_model

__version__ = "0.1.0"
__all__ = ["Answer", "Model", "open_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from labkit.proof import ready

        return getattr(ready, name)
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")
