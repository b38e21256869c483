"""Start of a runtime: `python -I -S -B <folder>/model_container/__main__.py`, told what to do by PRISM_RUNTIME."""

import sys
from pathlib import Path

# Isolated mode (-I) keeps the script's folder off the path. Last: beside the runtime an image has the owner's files,
# and none of those may be taken for the standard library's.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from model_container.runtime import main

if __name__ == "__main__":
    sys.exit(main())
