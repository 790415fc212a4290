"""`python -m nasturtium` is the command."""

import sys

from nasturtium.cli import main

if __name__ == "__main__":
    sys.exit(main())
