"""What a whole model is: which files make it, what they are called together, what stays behind."""

from agent.artifact.age import refuse_older
from agent.artifact.arguments import read_arguments
from agent.artifact.digest import content_id, digest, finalize_id, local_job_id
from agent.artifact.files import LocalFile, open_regular, read_json
from agent.artifact.findings import Finding
from agent.artifact.inventory import Inventory, Wanted, take_stock
from agent.artifact.names import is_model_family
from agent.artifact.report import Report, Rules, check, check_weights
from agent.artifact.samples import is_image
from agent.artifact.training import Training, read_training
from agent.artifact.walk import Selection

__all__ = [
    "Finding",
    "Inventory",
    "LocalFile",
    "Report",
    "Rules",
    "Selection",
    "Training",
    "Wanted",
    "check",
    "check_weights",
    "content_id",
    "digest",
    "finalize_id",
    "is_image",
    "is_model_family",
    "local_job_id",
    "open_regular",
    "read_arguments",
    "read_json",
    "read_training",
    "refuse_older",
    "take_stock",
]
