"""`python -m deberta_verify` is deberta-verify."""

import sys

from .programs import verify

sys.exit(verify())
