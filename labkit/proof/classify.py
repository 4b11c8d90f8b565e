"""Step 5, classification: what a linear probe reads from the tower's features.

Qwen2-VL has no class token and no head; its tower hands visual tokens to the language model. So the
features are pooled visual tokens, and the classifier is a linear one (logistic regression), trained
on pictures of one emoji each. What it gets right was there to be read with one matrix product.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from labkit.base import files, paths
from labkit.base.data import frozen
from labkit.base.stats import wilson
from labkit.proof.heads import inside, tokens_of
from labkit.world.chance import random_scene
from labkit.world.scenes import NAMES, Scene, render

Features = Callable[[Any], np.ndarray]
BACKGROUND = "background"


@frozen
class Classified:
    """How a linear probe did on pictures, or visual tokens, that it never saw."""

    name: str
    labels: tuple[str, ...]
    matrix: np.ndarray = field(repr=False)  # (labels, labels) counts, rows the truth

    @property
    def right(self) -> tuple[int, int]:
        """How many are right, of how many."""
        return int(np.trace(self.matrix)), int(self.matrix.sum())

    def row(self) -> tuple[str, str, str]:
        """Name, accuracy and its 95 % interval (Wilson), in words."""
        right, total = self.right
        low, high = wilson(right, total)
        return self.name, f"{right} of {total}, {right / total:.1%}", f"{low:.1%} to {high:.1%}"


def single_objects(count: int, *, seed: int) -> list[Scene]:
    """Pictures of one emoji at a random place, size and background; every kind in turn."""
    scenes = []
    for number in range(count):
        scene = random_scene(np.random.default_rng([seed, number]))
        alone = replace(scene.objects[0], name=NAMES[number % len(NAMES)])
        scenes.append(replace(scene, objects=(alone,)))
    return scenes


def pixels(image: Image.Image) -> np.ndarray:
    """The baseline that knows nothing: mean colours of a 4×4 grid's cells, (1, 48) float32."""
    cells = image.resize((4, 4), Image.Resampling.BOX)
    return np.asarray(cells, np.float32).reshape(1, -1) / 255


def gather(features: Features, scenes: Sequence[Scene], *, of: object = None) -> list[np.ndarray]:
    """The features of each scene: (n_visual_tokens, d_model) float32.

    Parameters
    ----------
    features
        Computes those of one picture.
    scenes
        The pictures.
    of
        What else the features depend on, such as the contents of a model's files. If it is given,
        they are computed once and kept.
    """
    place = "features", f"{paths.named(of, scenes)}.npz"
    if of is not None and (kept := _read(paths.kept(*place))):
        return kept
    # Matrices this small are slower on many threads, and far slower on a busy machine.
    with threadpool_limits(1):
        computed = [features(render(scene)) for scene in scenes]
    if of is not None:
        file, ends = io.BytesIO(), np.cumsum([len(one) for one in computed])
        np.savez(file, rows=np.concatenate(computed), ends=ends)
        files.write(paths.cache_dir().joinpath(*place), file.getvalue())
    return computed


def _read(path: Path) -> list[np.ndarray]:
    """Features that were kept; none if they were not, or are damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return np.split(kept["rows"], kept["ends"][:-1])
    except (OSError, ValueError, KeyError, BadZipFile):
        return []


def _fitted(features: np.ndarray, kinds: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with threadpool_limits(1):  # as in `gather`
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
        return model.fit(features, kinds)


def _score(name: str, labels: Sequence[str], truth: np.ndarray, taken: np.ndarray) -> Classified:
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(truth, taken, labels=range(len(labels)))
    return Classified(name=name, labels=tuple(labels), matrix=matrix)


def classify(
    name: str,
    train: tuple[Sequence[Scene], list[np.ndarray]],
    held_out: tuple[Sequence[Scene], list[np.ndarray]],
) -> Classified:
    """Pool each picture's visual tokens (their mean), fit on some pictures, score on others.

    Parameters
    ----------
    name
        Whose features they are.
    train, held_out
        Scenes of one object each, and their features from `gather`.
    """
    unseen, truth = _pooled(*held_out)
    return _score(name, NAMES, truth, _fitted(*_pooled(*train)).predict(unseen))


def _pooled(scenes: Sequence[Scene], features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each picture's visual tokens, and the number of its object's kind."""
    kinds = [NAMES.index(scene.objects[0].name) for scene in scenes]
    return np.stack([tokens.mean(axis=0) for tokens in features]), np.array(kinds)


class TokenProbe:
    """A linear probe of single visual tokens: which kind each shows, or background."""

    labels = (BACKGROUND, *NAMES)

    def __init__(self, scenes: Sequence[Scene], features: list[np.ndarray]) -> None:
        self._model = _fitted(np.concatenate(features), self._truths(scenes))

    @classmethod
    def truth(cls, scene: Scene) -> np.ndarray:
        """What stands at the middle of each visual token: (n_visual_tokens,), into ``labels``."""
        numbers = np.zeros(math.prod(tokens_of(scene)), int)
        for name in scene.kinds:
            numbers[inside(scene, name)] = cls.labels.index(name)
        return numbers

    def _truths(self, scenes: Sequence[Scene]) -> np.ndarray:
        return np.concatenate([self.truth(scene) for scene in scenes])

    def paint(self, tokens: np.ndarray, rows: int, cols: int) -> np.ndarray:
        """What each visual token is taken for: (rows, cols) numbers into ``labels``."""
        taken: np.ndarray = self._model.predict(tokens).reshape(rows, cols)
        return taken

    def score(self, name: str, scenes: Sequence[Scene], features: list[np.ndarray]) -> Classified:
        """How it does on the visual tokens of scenes that it never saw."""
        taken = self._model.predict(np.concatenate(features))
        return _score(name, self.labels, self._truths(scenes), taken)
