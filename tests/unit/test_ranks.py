"""Which of many processes finalizes."""

from __future__ import annotations

import pytest

from agent.ranks import other_rank

MAIN = [
    {},
    {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8"},  # torchrun, deepspeed, accelerate
    {"NODE_RANK": "0", "NUM_NODES": "2"},  # RunPod's clusters
    {"SLURM_NODEID": "0", "SLURM_PROCID": "0"},
    {"RANK": "", "NODE_RANK": " 0 "},
    {"RANK": "first"},
]
OTHERS = [
    ({"RANK": "1", "LOCAL_RANK": "1"}, "RANK is 1"),
    ({"RANK": "8", "LOCAL_RANK": "0"}, "RANK is 8"),
    ({"LOCAL_RANK": "3"}, "LOCAL_RANK is 3"),
    ({"NODE_RANK": "1"}, "NODE_RANK is 1"),
    ({"GROUP_RANK": "2"}, "GROUP_RANK is 2"),
    ({"MACHINE_RANK": "1"}, "MACHINE_RANK is 1"),
    ({"SLURM_NODEID": "4"}, "SLURM_NODEID is 4"),
]


@pytest.mark.parametrize("environ", MAIN)
def test_the_main_process_of_the_main_node_finalizes(environ):
    assert other_rank(environ) is None


@pytest.mark.parametrize(("environ", "because"), OTHERS)
def test_no_other_process_does(environ, because):
    assert other_rank(environ) == because


@pytest.mark.parametrize(
    ("command", "because"),
    [
        ("torchrun --nnodes=2 --node_rank=1 train.py", "--node_rank is 1"),
        ("torchrun --nnodes 2 --node-rank 1 train.py", "--node-rank is 1"),
        ("accelerate launch --num_machines 2 --machine_rank 1 train.py", "--machine_rank is 1"),
        ("deepspeed --node_rank=3 train.py", "--node_rank is 3"),
        ("torchrun --nnodes=2 --node_rank=0 train.py", None),
        ("accelerate launch --machine_rank 0 train.py", None),
        ("python train.py --rank 64 --lora_rank=16", None),
        ("torchrun --node_rank", None),
    ],
)
def test_the_flags_of_a_launcher_name_the_node(command, because):
    assert other_rank({}, command.split()) == because
