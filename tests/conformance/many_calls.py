"""Be many callers of host-local at once: one thread per container, in this process.

Arguments: the folder of the sources, a verb, the configuration, container IDs. Prints a JSON object of answers.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, f"{sys.argv[1]}/tests/conformance")

from plugin_call import environment, in_process

verb, conf, container_ids = sys.argv[2], sys.argv[3], sys.argv[4:]


def call(container_id: str) -> tuple[int, str]:
    answer = in_process("host-local", environment(verb, container_id), conf.encode())
    return answer.rc, answer.stdout


with ThreadPoolExecutor(len(container_ids)) as threads:
    print(json.dumps(dict(zip(container_ids, threads.map(call, container_ids), strict=True))))
