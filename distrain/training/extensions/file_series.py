"""The files that a name with numbers in it, such as `snapshot_iter_{.updater.iteration}`, has stood for."""

from __future__ import annotations

import glob
import os
import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_NUMBER = r" *([+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?)"


def file_series(filename: str, trainer: Trainer) -> list[str]:
    """Names of the files in `trainer.out` that the format gives for some numbers, in the order of these numbers.

    Args:
        filename: formatted with the trainer. Fields that are no numbers now stand for what they are now.
        trainer: whose files.
    """
    wildcard, pattern = "", ""
    for literal, field, spec, conversion in string.Formatter().parse(filename):
        wildcard += glob.escape(literal)
        pattern += re.escape(literal)
        if field is not None:
            text = f"{{{field}{'!' + conversion if conversion else ''}:{spec or ''}}}".format(trainer)
            is_number = re.fullmatch(_NUMBER, text)
            wildcard += "*" if is_number else glob.escape(text)
            pattern += _NUMBER if is_number else re.escape(text)
    found = []
    for name in glob.glob(wildcard, root_dir=trainer.out):
        match = re.fullmatch(pattern, name)
        if match and os.path.isfile(os.path.join(trainer.out, name)):
            found.append((tuple(map(float, match.groups())), name))
    return [name for _, name in sorted(found)]
