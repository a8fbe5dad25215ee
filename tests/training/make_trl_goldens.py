"""Writes `trl_goldens.json`: what the loss functions of TRL 1.16.0 themselves return for a few made-up numbers.

Run with TRL's package folder on the path and torch, transformers, datasets and accelerate installed:

    PYTHONPATH=TRL_FOLDER python tests/training/make_trl_goldens.py tests/training/trl_goldens.json
"""

import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

PAIRS, LENGTH = 4, 9
ACCELERATOR = SimpleNamespace(
    gather_for_metrics=lambda x: x, gather=lambda x: x, device="cpu", num_processes=1, reduce=lambda x, reduction: x
)
DPO = [
    ("sigmoid", 0.1, 0.0),
    ("hinge", 0.5, 0.0),
    ("ipo", 0.1, 0.0),
    ("exo_pair", 0.1, 0.2),
    ("nca_pair", 0.3, 0.0),
    ("robust", 0.1, 0.1),
    ("bco_pair", 0.1, 0.0),
    ("sppo_hard", 0.1, 0.0),
    ("apo_zero", 0.1, 0.0),
    ("apo_down", 0.1, 0.0),
    ("discopop", 0.1, 0.0),
    ("sigmoid_norm", 0.1, 0.0),
]


def made_up(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return -torch.rand(*shape, generator=generator) * 3


def dpo() -> dict:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 5, 8, 2, 4, 6, 1, 7])  # chosen ones, then rejected ones
    mask = (torch.arange(LENGTH)[None] >= 1) & (torch.arange(LENGTH)[None] <= lengths[:, None])
    logps = made_up(generator, 2 * PAIRS, LENGTH - 1) * mask[:, 1:]
    reference = made_up(generator, 2 * PAIRS, LENGTH - 1) * mask[:, 1:]
    sums = {
        "chosen": logps[:PAIRS].sum(1),
        "rejected": logps[PAIRS:].sum(1),
        "reference_chosen": reference[:PAIRS].sum(1),
        "reference_rejected": reference[PAIRS:].sum(1),
        "chosen_tokens": lengths[:PAIRS],
        "rejected_tokens": lengths[PAIRS:],
    }
    outputs = SimpleNamespace(
        log_probs=logps,
        entropy=torch.zeros_like(logps),
        mean_logits=torch.zeros_like(logps),
        is_top1=torch.zeros_like(logps, dtype=torch.bool),
    )
    model = lambda **_: outputs  # noqa: E731
    model.training = True
    cases = []
    for loss_type, beta, smoothing in [*DPO, ("sft", 0.1, 0.0)]:
        trainer = DPOTrainer.__new__(DPOTrainer)
        vars(trainer).update(
            model=model,
            accelerator=ACCELERATOR,
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=[loss_type],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=smoothing,
            use_weighting=False,
            args=SimpleNamespace(discopop_tau=0.05),
            _metrics={"train": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )
        inputs = {
            "input_ids": torch.zeros(2 * PAIRS, LENGTH, dtype=torch.long),
            "attention_mask": torch.ones(2 * PAIRS, LENGTH, dtype=torch.long),
            "completion_mask": mask.long(),
            "ref_chosen_logps": sums["reference_chosen"],
            "ref_rejected_logps": sums["reference_rejected"],
        }
        loss = trainer._compute_loss(model, inputs, False)
        metrics = {name: values[-1] for name, values in trainer._metrics["train"].items() if "/" in name}
        cases.append(
            {
                "loss_type": loss_type,
                "beta": beta,
                "label_smoothing": smoothing,
                "loss": loss.item(),
                "metrics": {name: value for name, value in metrics.items() if not name.startswith("logits")},
            }
        )
    return {"dpo_inputs": {name: values.tolist() for name, values in sums.items()}, "dpo": cases}


def grpo() -> dict:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 7, 2, 5])
    mask = (torch.arange(8)[None] < lengths[:, None]).long()
    arrays = {name: made_up(generator, 4, 8) for name in ("now", "old", "reference")}
    advantages = torch.tensor([1.2, -0.7, 0.4, -0.9])
    cases = []
    for loss_type in ("dapo", "bnpo", "dr_grpo", "grpo"):
        for level in ("token", "sequence"):
            for beta, corrected in ((0.0, True), (0.04, True), (0.04, False)):
                trainer = GRPOTrainer.__new__(GRPOTrainer)
                vars(trainer).update(
                    model=SimpleNamespace(training=True),
                    accelerator=ACCELERATOR,
                    aux_loss_enabled=False,
                    top_entropy_quantile=1.0,
                    off_policy_mask_threshold=None,
                    importance_sampling_level=level,
                    beta=beta,
                    loss_type=loss_type,
                    epsilon_low=0.2,
                    epsilon_high=0.28,
                    use_vllm=False,
                    current_gradient_accumulation_steps=1,
                    max_completion_length=10,
                    _entropy_bonus_enabled=False,
                    args=SimpleNamespace(use_bias_correction_kl=corrected, delta=None, steps_per_generation=1),
                    _metrics={"train": defaultdict(list)},
                )
                now = arrays["now"].clone().requires_grad_()
                trainer._get_per_token_logps_and_entropies = lambda *_, now=now, **__: (now, torch.zeros(4, 8), None)
                inputs = {
                    "prompt_ids": torch.zeros(4, 1, dtype=torch.long),
                    "prompt_mask": torch.ones(4, 1, dtype=torch.long),
                    "completion_ids": torch.zeros(4, 8, dtype=torch.long),
                    "completion_mask": mask,
                    "advantages": advantages,
                    "old_per_token_logps": arrays["old"],
                    "ref_per_token_logps": arrays["reference"],
                    "num_items_in_batch": mask.sum().float(),
                }
                loss = trainer._compute_loss(trainer.model, inputs)
                loss.backward()
                metrics = trainer._metrics["train"]
                cases.append(
                    {
                        "loss_type": loss_type,
                        "importance_sampling_level": level,
                        "beta": beta,
                        "use_bias_correction_kl": corrected,
                        "loss": loss.item(),
                        "gradient": now.grad.tolist(),
                        "kl": metrics["kl"][-1] if beta else None,
                        "clip_ratio": metrics["clip_ratio/region_mean"][-1],
                    }
                )
    inputs = {name: values.tolist() for name, values in arrays.items()}
    inputs |= {"advantages": advantages.tolist(), "lengths": lengths.tolist(), "max_completion_length": 10}
    return {"grpo_inputs": inputs | {"epsilon": 0.2, "epsilon_high": 0.28}, "grpo": cases}


if __name__ == "__main__":
    goldens = {"trl": trl.__version__, "torch": torch.__version__, **dpo(), **grpo()}
    with open(sys.argv[1], "w", encoding="utf-8") as stream:
        json.dump(goldens, stream, indent=1)
