"""Entry point of the runtime: `python -I -S -B <folder>/model_container/__main__.py`, configured by PRISM_RUNTIME."""

import sys
from pathlib import Path

# Isolated mode (-I) keeps the script's folder off the path. The folder goes last: an image has the owner's files
# beside the runtime, and none of them may shadow a module of the standard library.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from model_container.runtime import main

if __name__ == "__main__":
    sys.exit(main())
