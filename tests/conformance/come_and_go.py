"""Be containers that come and go, one after the other, until killed.

Arguments: the folder of the sources, the configuration, container IDs. Prints a line for each call that has succeeded.
"""

import itertools
import sys

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, f"{sys.argv[1]}/tests/conformance")

from plugin_call import environment, in_process

conf, container_ids = sys.argv[2].encode(), sys.argv[3:]

for container_id in itertools.cycle(container_ids):
    for verb in ("DEL", "ADD"):  # in this order: something is there when the killing comes
        answer = in_process("host-local", environment(verb, container_id), conf)
        if answer.rc:
            sys.exit(answer.stdout)
        print(verb, container_id, flush=True)
