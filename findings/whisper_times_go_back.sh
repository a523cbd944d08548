#!/usr/bin/env bash
# mlx-audio 0.6.2, Whisper: a transcript's times may go back.
#
# Guess before it was run: as in the Whisper paper's decoder, which this is a port of and whose comment stands above the
# rule, no time token below the last one is allowed. After "5.00 s, a word, 8.00 s" a token for 1.00 s can't come.
# Seen: it can. The bound is made of the places of the time tokens in the sequence, and not of the tokens, so that the
# range which is masked is empty. The rule beside it (a pair of times, no text between) holds.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" "mlx-audio==0.6.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from types import SimpleNamespace

import mlx.core as mx
from mlx_audio.stt.models.whisper.decoding import ApplyTimestampRules

END, FIRST, VOCAB = 50, 60, 1561
tokenizer = SimpleNamespace(eot=END, no_timestamps=59, timestamp_begin=FIRST)
rules = ApplyTimestampRules(tokenizer, sample_begin=0, max_initial_timestamp_index=None)
told = [[FIRST + 250, 7, FIRST + 400]]
logits = rules.apply(mx.zeros((1, VOCAB)), mx.array(told))[0]
seen = {
    "a time before the last": bool(mx.isfinite(logits[FIRST + 50]).item()),
    "a time after the last": bool(mx.isfinite(logits[FIRST + 401]).item()),
    "a word": bool(mx.isfinite(logits[7]).item()),
}
print(seen)
sys.exit(seen != {"a time before the last": True, "a time after the last": True, "a word": False})
PYTHON
