"""`python -m cni.cli` is `plexus`."""

import sys

from cni.cli.command import main

sys.exit(main(sys.argv[1:]))
