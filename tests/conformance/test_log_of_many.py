"""The log file of the meta plugin, when many processes of it run at once."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plugin_call import as_process, environment

MEGABYTE = 1 << 20
CALLS = 12


def test_processes_share_a_log_file_and_set_it_aside_once(tmp_path: Path):
    path = tmp_path / "logs" / "plexus.log"
    path.parent.mkdir()
    path.write_text("x" * (MEGABYTE - 400) + "\n")
    conf = {
        "cniVersion": "1.0.0",
        "name": "plexus",
        "cniDir": str(tmp_path / "state"),
        "logFile": str(path),
        "logLevel": "verbose",
        "logToStderr": False,
        "logOptions": {"maxSize": 1},
    }

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda number: as_process("plexus", environment("DEL", f"c{number}"), json.dumps(conf).encode()),
            range(CALLS),
        )
        assert [(answer.rc, answer.stdout, answer.stderr) for answer in answers] == [(0, "", "")] * CALLS

    [aside] = path.parent.glob("plexus-*.log.gz")
    old = gzip.decompress(aside.read_bytes()).decode().splitlines()[1:]
    new = path.read_text().splitlines()
    assert old
    assert new
    for number in range(CALLS):
        [line] = [line for line in old + new if f"DEL containerID=c{number} " in line]
        assert line.endswith(" done")
    assert sorted(path.parent.iterdir()) == sorted([path, aside])
