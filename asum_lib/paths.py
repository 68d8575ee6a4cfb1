"""Where things lie: the study's own folder, its committed results and checkpoints, and the cache of what is made on demand."""

import os
from pathlib import Path

REPOSITORY = Path(os.environ.get("ASUM_HOME", Path(__file__).resolve().parent.parent))
RESULTS = REPOSITORY / "results"
CHECKPOINTS = REPOSITORY / "checkpoints"
NOTEBOOKS = REPOSITORY / "notebooks"


def cache() -> Path:
    """Folder for generated corpora and features: `$ASUM_CACHE`, or `asum` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "asum"
    return Path(os.environ.get("ASUM_CACHE", default))
