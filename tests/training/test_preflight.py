"""Disk and memory before the first step."""

import shutil
from collections import namedtuple
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from mentallama_jax.errors import UserError
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import AXES
from mentallama_jax.training import preflight
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES, PACKED_TOKENS
from mentallama_jax.training.mesh_placement import abstract_state
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.preflight import (
    MemoryEstimate,
    check_disk,
    check_memory,
    estimate_memory,
)
from mentallama_jax.training.step import init_state, make_train_step

GB = 10**9
NEED = MemoryEstimate(params=4 * GB, moments=8 * GB, gradients=4 * GB, activations=6 * GB, checkpoint=12 * GB)
Usage = namedtuple("Usage", "total used free")


def estimate(preset, config, rows):
    shapes = jax.eval_shape(partial(init_state, Supervised(PRESETS[preset], config), config, 10))
    return estimate_memory(PRESETS[preset], config, rows, config.data.max_length, shapes)


def test_state_and_gradients_of_the_7b_model_are_counted_exactly(tmp_path, tiny_config):
    config = tiny_config(tmp_path, data={"max_length": 2048}, training={"micro_batch_rows": 1})
    need = estimate("llama2-7b", config, 1)
    assert need.params == need.gradients == 4 * 6_738_415_616
    assert need.moments == pytest.approx(8 * 6_738_415_616)
    assert need.checkpoint == pytest.approx(12 * 6_738_415_616)
    halved = tiny_config(tmp_path, optimizer={"first_moment_dtype": "bfloat16"})
    assert estimate("llama2-7b", halved, 4).moments == pytest.approx(6 * 6_738_415_616)


def test_devices_share_what_the_mesh_cuts(tmp_path, tiny_config):
    config = tiny_config(tmp_path, data={"max_length": 2048}, training={"micro_batch_rows": 64, "batch_size": 64})
    mesh = AbstractMesh((1, 32, 2, 1), AXES, axis_types=(AxisType.Auto,) * 4)
    shapes = abstract_state(Supervised(PRESETS["llama2-7b"], config), config, 10, mesh)
    need = estimate_memory(PRESETS["llama2-7b"], config, 64, 2048, shapes)
    whole = estimate("llama2-7b", config, 64)
    assert need.params == need.gradients
    for shared, all_of_it in ((need.params, whole.params), (need.moments, whole.moments)):
        assert shared == pytest.approx(all_of_it / 64, rel=0.01)  # but for the norms, which every device holds
    assert need.activations < whole.activations / 32
    assert need.checkpoint == whole.checkpoint


def test_accumulating_takes_a_second_copy_of_the_gradients(tmp_path, tiny_config):
    config = tiny_config(tmp_path)
    assert (
        estimate("toy", config, 8).gradients
        == 2 * estimate("toy", config, 4).gradients
        == 8 * count_params(PRESETS["toy"])
    )


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "full"])
def test_the_estimate_is_near_what_the_compiler_reserves(tmp_path, tiny_config, remat):
    config = tiny_config(tmp_path, model={"remat": remat}, data={"max_length": 256}, training={"micro_batch_rows": 8})
    shapes = jax.eval_shape(partial(init_state, Supervised(PRESETS["toy"], config), config, 10))
    arrays = {name: value[None] for name, value in PACKED_TOKENS.empty(8, 256).items()}
    batch = arrays | {MICRO_BATCHES: np.int32(1)}
    reserved = (
        make_train_step(Supervised(PRESETS["toy"], config), config, 10).lower(shapes, batch).compile().memory_analysis()
    )
    need = estimate("toy", config, 8)
    assert need.params + need.moments == pytest.approx(reserved.argument_size_in_bytes, rel=0.02)
    assert 0.6 < (need.gradients + need.activations) / reserved.temp_size_in_bytes < 2


def test_remat_and_smaller_micro_batches_lower_the_estimate(tmp_path, tiny_config):
    whole = estimate("smollm2-135m", tiny_config(tmp_path), 8).activations
    assert estimate("smollm2-135m", tiny_config(tmp_path, model={"remat": "full"}), 8).activations < whole
    assert estimate("smollm2-135m", tiny_config(tmp_path, training={"micro_batch_rows": 1}), 8).activations < whole


def on_the_host(monkeypatch, memory):
    monkeypatch.setattr(preflight, "available_memory", lambda: memory)


def on_a_device(monkeypatch, memory, host):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": memory}, device_kind="TPU v5e")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    on_the_host(monkeypatch, host)


def check(config, need=NEED):
    said = []
    check_memory(need, config, said.append)
    return said


def test_what_cannot_fit_is_an_error_that_says_what_to_change(monkeypatch, tmp_path, tiny_config):
    on_the_host(monkeypatch, 15 * GB)
    with pytest.raises(UserError, match=r"the host has 15.0 GB .* needs 34.0 GB .*smaller model.source") as caught:
        check(tiny_config(tmp_path))
    assert "\n" not in str(caught.value)


def test_what_may_not_fit_is_a_warning_that_names_the_keys(monkeypatch, tmp_path, tiny_config):
    on_the_host(monkeypatch, 20 * GB)
    (line,) = check(tiny_config(tmp_path))
    assert line.startswith("warning: the host has 20.0 GB")
    assert "training.micro_batch_rows below 4, or model.remat=full, or data.max_length below 192" in line
    (line,) = check(tiny_config(tmp_path, model={"remat": "full"}, training={"micro_batch_rows": 1}))
    assert line.endswith("if it runs out: data.max_length below 192")


def test_enough_memory_is_not_worth_a_word(monkeypatch, tmp_path, tiny_config):
    on_the_host(monkeypatch, 35 * GB)
    assert check(tiny_config(tmp_path)) == []
    on_a_device(monkeypatch, 23 * GB, 13 * GB)
    assert check(tiny_config(tmp_path)) == []


def test_a_device_is_looked_at_where_it_has_memory_of_its_own(monkeypatch, tmp_path, tiny_config):
    on_a_device(monkeypatch, 15 * GB, 100 * GB)
    with pytest.raises(UserError, match=r"TPU v5e has 15.0 GB"):
        check(tiny_config(tmp_path))
    on_a_device(monkeypatch, 40 * GB, 5 * GB)
    (line,) = check(tiny_config(tmp_path))
    assert "copy of 12.0 GB, and 5.0 GB are free" in line


def test_the_disk_must_hold_the_last_the_best_and_a_new_checkpoint(monkeypatch, tmp_path, tiny_config):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GB, 65 * GB, 35 * GB))
    config = tiny_config(tmp_path, checkpoint={"keep_last": 1})
    with pytest.raises(
        UserError, match=r"3 checkpoints of 12.0 GB .* need 36.0 GB more and 35.0 GB are free; make room"
    ):
        check_disk(tmp_path, 12 * GB, 0, config)
    with pytest.raises(UserError, match=r"a larger disk, or lower checkpoint.keep_last$"):
        check_disk(tmp_path, 12 * GB, 0, tiny_config(tmp_path, checkpoint={"keep_last": 2}))
    check_disk(tmp_path, 12 * GB, 1, config)
    check_disk(tmp_path, 12 * GB, 9, config)
    check_disk(tmp_path, 11 * GB, 0, config)
