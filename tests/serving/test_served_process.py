"""The command as a process of its own: real signals, a real model folder, and an end with the status 0."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from child_processes import cpu_environment
from toy_answerer import CONFIG, TOKENIZER, toy_params

from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

MARKER = "zanzibarquokka"


@pytest.mark.slow
def test_a_signal_lets_an_answer_finish(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    card = ModelCard("tiny", "org/base", base_is_hub_id=True)
    save_hf(folder, CONFIG, toy_params(), load_tokenizer(TOKENIZER), card=card)
    options = ["--port", "0", "--max-length", "200", "--warm-up", "64", "--slots", "2", "--max-new-tokens", "8"]
    command = [sys.executable, "-m", "mentallama_jax", "serve", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=cpu_environment()) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if " at http" in line or "error" in line)
        assert line.startswith("tiny at http://127.0.0.1:")
        url = line.partition(" at ")[2].partition(" ")[0]
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as http:
            assert http.get("/health").status_code in (200, 503)
            end = time.monotonic() + 300
            while http.get("/health").status_code != 200:
                assert time.monotonic() < end, "never ready"
                time.sleep(0.1)
            body = {"prompt": f"{MARKER} ", "max_tokens": 150, "temperature": 0, "stream": True}
            with http.stream("POST", "/v1/completions", json=body) as answer:
                pieces = answer.iter_lines()
                next(pieces)
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
                late = httpx.post(f"{url}/v1/analyse", json={"post": "x", "task": "DR"}, trust_env=False)
                assert late.status_code == 503
                last = [json.loads(piece[6:]) for piece in pieces if piece.startswith("data: {")][-1]
            assert last["choices"][0]["finish_reason"] in ("stop", "length")
        assert process.wait(60) == 0
        said = process.stderr.read()
    assert "ready after" in said
    assert "Traceback" not in said
    assert MARKER not in said
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}
