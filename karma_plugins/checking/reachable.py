"""What lies beyond this machine: servers that models and judges are asked at, the hub, the tracking server.

One small request each, which costs nothing: a list of models, never an answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from karma_plugins import models
from karma_plugins.checking.findings import Findings
from karma_plugins.contracts import Endpoint, Weights
from karma_plugins.errors import KarmaError

#: Seconds that a server may take to say that it is there.
PATIENCE = 5.0
REFUSED = (401, 403)


def endpoints(pool: Iterable[Endpoint], findings: Findings) -> None:
    """Ask each server once whether it is there and takes our key."""
    for endpoint in {(one.endpoint, one.api_key_env): one for one in pool}.values():
        findings.attempt(_endpoint, endpoint, findings)


def hub(weights: Weights, where: str) -> None:
    """Raise KarmaError where weights of the hub are neither here nor to be fetched, as HF_HUB_OFFLINE is
    set.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no", "off")
    if weights.hub is None or not offline:
        return
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return  # what needs it says so itself
    if not isinstance(try_to_load_from_cache(weights.hub, "config.json", revision=weights.revision), str):
        raise KarmaError(
            f"{where}: '{weights.hub}' at {weights.revision} is not in this machine's cache, and "
            "HF_HUB_OFFLINE is set. Fetch it beforehand: "
            f"`hf download {weights.hub} --revision {weights.revision}`."
        )


def tracking(findings: Findings) -> None:
    """Ask the tracking server, where one is named, whether it is there and lets us in."""
    import httpx

    uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not uri.startswith("http"):
        return
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    login = (user, password or "") if user and not token else None
    try:
        reply = httpx.post(
            f"{uri}/api/2.0/mlflow/experiments/search",
            json={"max_results": 1}, headers=headers, auth=login, timeout=PATIENCE,
        )  # fmt: skip
        reply.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        address = _without_login(uri)
        if status in REFUSED:
            findings.warnings.append(
                f"MLFLOW_TRACKING_URI: {address} answers {status}. Set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN. Until then records wait in .karma/spool."
            )
            return
        reason = f"status {status}" if status is not None else type(error).__name__
        findings.warnings.append(
            f"MLFLOW_TRACKING_URI: {address} does not answer ({reason}). Records will wait in "
            ".karma/spool until `karma sync` delivers them."
        )


def _endpoint(endpoint: Endpoint, findings: Findings) -> None:
    import httpx

    address, secret = endpoint.endpoint, models.api_key(endpoint)
    headers = {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret is not None else {}
    try:
        with httpx.stream("GET", f"{address.rstrip('/')}/models", headers=headers, timeout=PATIENCE) as reply:
            status = reply.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        findings.warnings.append(
            f"{address}: nothing answers there ({type(error).__name__}). Start the server before "
            "the stage that asks it, or correct the descriptor."
        )
        return
    if status in REFUSED:
        findings.errors.append(
            f"{address}: it answers {status}. Check the key in the variable that api_key_env names."
        )
    elif 300 <= status < 400:
        findings.errors.append(f"{address}: it redirects ({status}). Name the address that answers.")


def _without_login(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
