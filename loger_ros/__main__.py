"""``python -m loger_ros``: the command line, for when its script is not on the PATH."""

import sys

from loger_ros.cli import main

sys.exit(main())
