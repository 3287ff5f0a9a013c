"""`python -m bench.plain FOLDER REPO`: what people write instead: create the repo, upload, tell the row.

Without a job in the environment there is no row to tell, and this is `upload_folder` alone.
"""

import os
import sys

from huggingface_hub import HfApi


def main() -> None:
    """Publish a folder."""
    folder, repo_id = sys.argv[1:]
    api = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ["HF_TOKEN"])
    api.create_repo(repo_id, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=folder)
    if "JOB_ID" in os.environ:
        tell(f"{api.endpoint}/{repo_id}")


def tell(model_url: str) -> None:
    """Let the row say that the job is completed."""
    from postgrest.types import ReturnMethod

    from supabase import ClientOptions, create_client

    options = ClientOptions(headers={"x-job-token": os.environ["JOB_TOKEN"]})
    client = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_ANON_KEY"], options)
    done = {"status": "completed", "progress": 100, "model_url": model_url}
    told = client.table("local_training_jobs").update(done, returning=ReturnMethod.minimal)
    told.eq("id", os.environ["JOB_ID"]).execute()


if __name__ == "__main__":
    main()
