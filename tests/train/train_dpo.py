"""DPO of an adapter, as a user's script does it."""

import os

from datasets import Dataset
from pace import Pace
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from agent.callback import AgentCallback

pairs = Dataset.from_list(
    [
        {"prompt": "the quick brown fox", "chosen": " jumps over the lazy dog", "rejected": " is lazy"},
        {"prompt": "hello", "chosen": " world", "rejected": " corpus"},
    ]
    * 8
)

trainer = DPOTrainer(
    model=os.environ["BASE"],
    args=DPOConfig(
        output_dir=os.environ["OUTPUT_DIR"],
        max_steps=6,
        per_device_train_batch_size=2,
        max_length=32,
        logging_steps=1,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
    ),
    train_dataset=pairs,
    eval_dataset=pairs.select(range(2)),
    peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    callbacks=[AgentCallback(), Pace()],
)
trainer.train()
trainer.save_model()
