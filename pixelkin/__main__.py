"""`python -m pixelkin`: the command line."""

import sys

from pixelkin.cli import main

if __name__ == "__main__":
    sys.exit(main())
