"""What a reader of the repo sees besides the weights: card, adapter config, manifest."""

from agent.card.adapter import BASE_KEY, read_adapter_config, with_base
from agent.card.base import choose_base, is_model_id
from agent.card.curves import figures
from agent.card.facts import Facts, Picture, Report, Training
from agent.card.front import named_bases, read_metadata
from agent.card.gallery import gallery
from agent.card.manifest import Listed, Manifest, make_manifest, read_manifest
from agent.card.readme import framework_versions, plain_card, publish_card
from agent.card.reports import MOST_BYTES as LARGEST_REPORT_BYTES
from agent.card.reports import metrics as report_metrics
from agent.card.reports import read_report, report_table

__all__ = [
    "BASE_KEY",
    "LARGEST_REPORT_BYTES",
    "Facts",
    "Listed",
    "Manifest",
    "Picture",
    "Report",
    "Training",
    "choose_base",
    "figures",
    "framework_versions",
    "gallery",
    "is_model_id",
    "make_manifest",
    "named_bases",
    "plain_card",
    "publish_card",
    "read_adapter_config",
    "read_manifest",
    "read_metadata",
    "read_report",
    "report_metrics",
    "report_table",
    "with_base",
]
