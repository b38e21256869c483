"""Start of a runtime: `python -I -B <folder>/model_container/__main__.py`, told what to do by PRISM_RUNTIME."""

import sys
from pathlib import Path

# Isolated mode (-I) keeps the script's folder off the path, and with it every file the model's owner put there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model_container.runtime import main

if __name__ == "__main__":
    sys.exit(main())
