"""SFT of all weights, as a user's script does it."""

import os

from datasets import Dataset
from pace import Pace
from trl import SFTConfig, SFTTrainer

from agent.callback import AgentCallback

texts = Dataset.from_dict({"text": ["the quick brown fox jumps over the lazy dog", "hello tiny world"] * 8})

trainer = SFTTrainer(
    model=os.environ["BASE"],
    args=SFTConfig(
        output_dir=os.environ["OUTPUT_DIR"],
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_length=32,
        logging_steps=1,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
    ),
    train_dataset=texts,
    eval_dataset=texts.select(range(2)),
    callbacks=[AgentCallback(), Pace()],
)
trainer.train()
trainer.save_model()
