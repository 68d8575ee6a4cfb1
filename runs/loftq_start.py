"""How close LoftQ and LoRA start to full precision, for every model of scale mini: what the page on LoftQ shows.

    python runs/loftq_start.py

Writes `results/loftq_start.json` after each model, and goes on where it was stopped. Entries of other checkpoints are measured
anew. A few minutes on one core.
"""

import sys

from asum_lib.study import loftq_start

if __name__ == "__main__":
    loftq_start.write(progress=lambda line: print(line, file=sys.stderr, flush=True))
