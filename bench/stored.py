"""Which bytes of content a Hub received, told from its requests and from what its files are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from bench.hub import TOKEN
from bench.sides import REPO_ID

if TYPE_CHECKING:
    from bench.hub import HubProcess

_XORB = "/v1/xorbs/default/"
_PLOT = ".png"


def content_bytes(hub: HubProcess, since: int) -> int:
    """Bytes sent to storage from a request on, by xet or by Git LFS, without those of plots.

    A plot's bytes are those of xorbs of which no other file is made. Whatever else a xorb is for, also one
    that no file needs, counts.
    """
    plots = _xorbs_of_plots(hub.endpoint)
    sent = 0
    for request in hub.look(since).requests:
        path, stores = request["path"], request["method"] in {"POST", "PUT"}
        is_xorb = path.startswith(_XORB)
        is_object = request["kind"] == "lfs" and request["method"] == "PUT"
        if stores and (is_object or (is_xorb and path.removeprefix(_XORB) not in plots)):
            sent += request["received_bytes"]
    return sent


def _xorbs_of_plots(endpoint: str) -> set[str]:
    token = _get(f"{endpoint}/api/models/{REPO_ID}/xet-read-token/main", TOKEN)["accessToken"]
    plots: set[str] = set()
    others: set[str] = set()
    for file in _get(f"{endpoint}/api/models/{REPO_ID}/tree/main?recursive=true", TOKEN):
        if name := file.get("xetHash"):
            terms = _get(f"{endpoint}/v1/reconstructions/{name}", token)["terms"]
            (plots if file["path"].endswith(_PLOT) else others).update(term["hash"] for term in terms)
    return plots - others


def _get(url: str, token: str) -> Any:
    with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"})) as answer:
        return json.load(answer)
