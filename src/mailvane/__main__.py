"""`python -m mailvane` is the command `mailvane`."""

import sys

from mailvane.cli import main

sys.exit(main())
