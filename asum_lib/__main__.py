"""`python -m asum_lib` is `asum`."""

import sys

from asum_lib.cli import main

sys.exit(main())
