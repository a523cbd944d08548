"""What a server has resident of a model: `python bench/packed/resident.py MODEL`.

For a random llama of 4 bits with eight billion weights, 5 GB:

    python bench/packed/random_llama.py MODEL --hidden 4096 --layers 32 --tokenizer SMOLLM2

The server starts on it, tries what can be done with it unless `--cache-dir` has that, and writes a few tokens. Target:
all of its processes together, each at its most, stay below 16 GB. Figures go to bench/results/packed_resident.json;
exit code 0 when the target was met, else 2.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.first_answer import peak_bytes
from lib.hardware import this_machine
from lib.peer_scenarios import throughput
from lib.peer_servers import OURS, Peer, ours
from lib.processes import BENCH, ServerProcess

MOST_BYTES = 16_000_000_000
TOKENS = 16


def main() -> int:
    """Serve and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cache-dir", type=Path, help="where a start finds what an earlier one has tried")
    given, machine = parser.parse_args(), this_machine()
    folder: Path = given.model
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch:
        words, began = ours(folder, 1, "--cache-dir", str(given.cache_dir or scratch)).words, perf_counter()
        with ServerProcess(words, Path(scratch) / "server.log") as server:
            ready_s = perf_counter() - began
            tokens_per_s, _ = throughput(Peer(OURS, server.url, None), 1, 1, TOKENS, 0)
            peaks = [peak_bytes(process) for process in (psutil.Process(server.pid), *server.children())]
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    found = {"weights_bytes": weights, "peak_bytes": sum(peaks), "worker_peak_bytes": max(peaks)}
    found |= {"most_bytes": MOST_BYTES, "ready_s": ready_s, "tokens_per_s": tokens_per_s}
    print(json.dumps(found))
    facts = {"command": " ".join(["python", *sys.argv]), "machine": asdict(machine), **found}
    (BENCH / "results" / "packed_resident.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if found["peak_bytes"] < MOST_BYTES else 2


if __name__ == "__main__":
    sys.exit(main())
