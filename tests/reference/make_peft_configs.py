# SPDX-License-Identifier: Apache-2.0
"""Configurations: what peft's save_pretrained writes as adapter_config.json, for every method that peft has and for every
variant of its LoRA, into peft/configs.json.

"refused" is the key that decides: with anything but the plain formula W + s B A (another method, a variant of LoRA,
factors for base weights that peft changes when it loads them), it must be named. null: the folder means plain LoRA.
"""

import json
import pathlib
import tempfile
import warnings

from peft import EvaConfig, LoftQConfig, LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora.config import (ArrowConfig, BdLoraConfig, CordaConfig, KasaConfig, LoraGAConfig, MontecloraConfig,
                                      VeloraConfig)

from golden_io import record, save_json_cases

# Arguments of methods that cannot do without.
NEEDED = {"ADALORA": {"total_step": 10}, "CPT": {"task_type": "CAUSAL_LM"}}

VARIANTS = [
    ("use_dora", {"use_dora": True}), ("use_qalora", {"use_qalora": True}), ("lora_bias", {"lora_bias": True}),
    ("bias", {"bias": "all"}), ("bias", {"bias": "lora_only"}), ("fan_in_fan_out", {"fan_in_fan_out": True}),
    ("layers_to_transform", {"layers_to_transform": [0]}), ("layers_to_transform", {"layers_to_transform": 0}),
    ("layer_replication", {"layer_replication": [[0, 2]]}), ("trainable_token_indices", {"trainable_token_indices": [5]}),
    ("target_parameters", {"target_parameters": ["conv2.weight"]}),
    ("alora_invocation_tokens", {"alora_invocation_tokens": [1]}), ("arrow_config", {"arrow_config": ArrowConfig()}),
    ("use_bdlora", {"use_bdlora": BdLoraConfig(target_modules_bd_a=["query"])}),
    ("kasa_config", {"kasa_config": KasaConfig()}), ("velora_config", {"velora_config": VeloraConfig()}),
    ("monteclora_config", {"monteclora_config": MontecloraConfig()}),
    ("init_lora_weights", {"init_lora_weights": "pissa"}),
    ("init_lora_weights", {"init_lora_weights": "pissa_niter_4"}),
    ("init_lora_weights", {"init_lora_weights": "olora"}),
    ("init_lora_weights", {"init_lora_weights": "corda", "corda_config": CordaConfig()}),
    ("init_lora_weights", {"init_lora_weights": "loftq", "loftq_config": LoftQConfig()}),
    (None, {"init_lora_weights": "lora_ga", "lora_ga_config": LoraGAConfig()}), (None, {"init_lora_weights": "mica"}),
    (None, {}), (None, {"use_rslora": True, "rank_pattern": {"query": 3}, "alpha_pattern": {"query": 2}}),
    (None, {"init_lora_weights": False}), (None, {"init_lora_weights": "gaussian"}),
    (None, {"init_lora_weights": "orthogonal"}), (None, {"init_lora_weights": "eva", "eva_config": EvaConfig()}),
    (None, {"exclude_modules": ["layer4.0.conv2"]}), (None, {"exclude_modules": r".*layer4.*"}),
    (None, {"lora_dropout": 0.25, "modules_to_save": ["linear_layer"], "revision": "main"}),
]


def written(config):
    """adapter_config.json as save_pretrained writes it, sets in sorted order."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        content = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
    return {key: sorted(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
            for key, value in content.items()}


def main():
    warnings.simplefilter("ignore")
    cases = []
    for kind, make in sorted(PEFT_TYPE_TO_CONFIG_MAPPING.items(), key=lambda item: str(item[0].value)):
        if kind == PeftType.LORA:
            continue
        arguments = dict(NEEDED.get(kind.value, {}))
        if "target_modules" in make.__dataclass_fields__:
            arguments["target_modules"] = ["query", "value"]
        config = written(make(**arguments))
        cases.append({"name": kind.value, "refused": "peft_type", "config": config})
    for refused, arguments in VARIANTS:
        config = written(LoraConfig(**({"r": 2, "target_modules": ["conv2", "query"]} | arguments)))
        name = "LORA " + ", ".join(sorted(arguments))
        cases.append({"name": name, "refused": refused, "config": config})
    print(len(cases), [case["name"] for case in cases])
    save_json_cases("peft/configs", record(__file__, ["peft"]), cases)


if __name__ == "__main__":
    main()
