"""Makes the recorder of golden/python importable: `import package` first, as it may not be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python" / "python"))
