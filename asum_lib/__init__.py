"""The study's library. Importing it loads nothing heavy, and keeps libraries from fetching code."""

import logging
import sys

# bitsandbytes fetches compiled code from the Hub while it is imported, where the package `kernels` is installed, and says so
# where it is not; transformers would by a checkpoint's wish. Neither finds the package in a process of the study.
sys.modules.setdefault("kernels", None)
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
