"""The command: thin layers that parse, call one public function, and print.

Results go to standard output, everything else to standard error. Exit codes:

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | an error that is not the user's (report it, with `--debug`) |
| 2 | something in the command, the data or the study cannot be used; the message says what and how to mend it |
| 3 | the search ended, but no network meets the constraints, or every trial failed |
| 130 | interrupted; the study is kept and the message says how to go on |
"""

from nasturtium.cli.app import main

__all__ = ["main"]
