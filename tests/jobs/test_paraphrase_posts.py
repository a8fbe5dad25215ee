"""Posts are rewritten by a random toy model: what it writes is refused and counted, and a stopped call resumes."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records
from mentallama_jax.imhi.disguise.paraphrase import Bounds, ParaphraseSettings
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.paraphrase_posts import paraphrase_records
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import abstract_params

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
CONFIG = LlamaConfig(
    vocab_size=1024, hidden_size=16, intermediate_size=24, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=8,
    rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_embeddings=False, max_positions=256,
)  # fmt: skip
POSTS = ("Hi Sarah, I am low.", "A fine day.", "It rains. " * 100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import jax
    import jax.numpy as jnp

    folder = tmp_path_factory.mktemp("models") / "tiny"
    source = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(source.normal(0, 0.3, x.shape), x.dtype), abstract_params(CONFIG))
    save_hf(folder, CONFIG, params, load_tokenizer(SAMPLE_TOKENIZER), card=ModelCard("t", "o/b", base_is_hub_id=True))
    return folder


def records() -> list[Record]:
    rows = [Record(f"DR/{number}", "DR", post, "yes") for number, post in enumerate(POSTS)]
    return [*rows, Record("again", "DR", POSTS[0], "no")]


@pytest.mark.long
def test_the_command_keeps_the_disguised_text_where_the_model_fails(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "rows.jsonl", records())
    options = ["--out", str(tmp_path / "out" / "new.jsonl"), "--new-key", str(tmp_path / "a.key")]
    options += ["--paraphrase", str(model), "--similarity", "chrf", "--max-new-tokens", "8"]
    assert main(["data", "disguise", str(tmp_path / "rows.jsonl"), *options]) == 0
    new = read_records([tmp_path / "out" / "new.jsonl"]).records
    assert new[1].post == "A fine day."
    assert "Sarah" not in new[0].post
    assert new[0].post == new[3].post
    # The third post is too long for the model, which leaves it as it is.
    report = json.loads((tmp_path / "out" / "new.disguise.json").read_text())
    assert report["paraphrased"] == {"kept": 0, "empty": 1, "too different": 2, "long run left": 0}
    assert "paraphrases: kept 0" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["new.disguise.json", "new.jsonl"]


def test_what_is_near_enough_is_kept_and_a_stopped_call_resumes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ParaphraseSettings(
        model=str(model), similarity="chrf", bounds=Bounds(0.0), max_new_tokens=8, batch_size=1
    )
    work = tmp_path / "work.jsonl"

    def stop(rows: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paraphrase_records(POSTS[:2], records()[:2], settings, work, stop)
    assert len(work.read_text().splitlines()) == 1
    answered: list[int] = []
    new, counts = paraphrase_records(POSTS[:2], records()[:2], settings, work, lambda rows: answered.append(len(rows)))
    assert answered == [1]
    assert counts["kept"] == 2
    assert not work.exists()
    assert {row.post for row in new}.isdisjoint(POSTS)
    assert [row.id for row in new] == ["DR/0", "DR/1"]
