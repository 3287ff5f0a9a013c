"""What a reader of the repo sees besides the weights: card, adapter config, manifest."""

from agent.card.adapter import BASE_KEY, read_adapter_config, with_base
from agent.card.base import choose_base
from agent.card.manifest import make_manifest
from agent.card.readme import Facts, named_bases, plain_card, publish_card, read_metadata

__all__ = [
    "BASE_KEY",
    "Facts",
    "choose_base",
    "make_manifest",
    "named_bases",
    "plain_card",
    "publish_card",
    "read_adapter_config",
    "read_metadata",
    "with_base",
]
