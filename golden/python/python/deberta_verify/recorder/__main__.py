"""`python -m deberta_verify.recorder`: the program deberta-record."""

import sys

from .command import main

sys.exit(main())
