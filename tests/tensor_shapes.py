"""Checks the shapes and types that tensor functions are annotated with, while tests run; the product pays nothing.

`check_shapes` has to run before the first import of a checked module. Not checked: whether an array that comes from
outside is of bools, since the functions that take one refuse others by an error of their own, which has tests.
"""

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook

from runtime.masks import MaskBool

#: The modules whose tensors have their shapes in their annotations.
CHECKED = (
    "training.policy.advantages",
    "training.policy.flow_sde",
    "training.policy.objective",
    "training.policy.token_masks",
    "training.reward.losses",
)
#: A number that is whole will do for a float.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({MaskBool: np.ndarray})))


def check_shapes() -> None:
    """From now on every call of a function in `CHECKED` is checked."""
    install_import_hook(CHECKED, "tests.tensor_shapes.checked")
