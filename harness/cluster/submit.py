"""A study as a job of a cluster, over Ray's job API: sent from outside, followed, its results fetched."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import tokens
from harness.cluster import parcels
from harness.cluster.package import STUDY, pack
from harness.executors.ray_options import require_ray
from harness.types import RunError, UsageError

if TYPE_CHECKING:
    from harness.spec import StudySpec

FINISHED = ("SUCCEEDED", "FAILED", "STOPPED")
POLL_SECONDS = (1.0, 5.0)  # at first; when nothing happens
HEAD_FOLDER = "optgrid-results"  # in the head's home, where no --out is given
START_SECONDS = 60.0  # that a head may need before it takes jobs
PATIENCE_SECONDS = 120.0  # that the dashboard may be out of reach while a job is followed


@dataclass(frozen=True)
class Remote:
    """A cluster's dashboard.

    Args:
        address: `http://127.0.0.1:8265`, usually through `ssh -L`.
        insecure: whether one that asks for no token is used.
    """

    address: str
    insecure: bool = False

    def client(self) -> Any:
        """Ray's client.

        Raises:
            UsageError: not an address, no token here, or the cluster asks for none.
            RunError: nobody answers there, or the token is another.
        """
        if not self.address.startswith(("http://", "https://")):
            raise UsageError(
                f"--address {self.address}: jobs are sent to the dashboard, as http://127.0.0.1:8265"
            )
        require_ray()
        tokens.require(self.insecure)
        if not self.insecure and dashboard_mode(self.address) == "disabled":
            raise UsageError(
                "the cluster asks for no token: whoever reaches it can run code on it; start it with "
                f"{tokens.MODE}=token, or say --insecure"
            )
        if refused(self.address):
            raise RunError(
                f"the cluster at {self.address} asks for another token than the one here: copy its head's "
                f"~/.ray/auth_token to {tokens.token_path()} (mode 600)"
            )
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.ERROR)  # it tells of every file that it sends
        try:
            return JobSubmissionClient(self.address)
        except (ConnectionError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise RunError(f"no cluster answers at {self.address}: {first}") from error


def dashboard_mode(address: str) -> str:
    """`token` or `disabled`, as the dashboard tells everybody.

    Raises:
        RunError: nobody answers.
    """
    import requests

    try:
        answer = requests.get(f"{address.rstrip('/')}/api/authentication_mode", timeout=20)
        return str(answer.json()["authentication_mode"])
    except (requests.RequestException, ValueError, KeyError) as error:
        raise RunError(
            f"no cluster answers at {address} ({type(error).__name__}): is the tunnel up? "
            "ssh -N -L 8265:127.0.0.1:8265 USER@HEAD"
        ) from error


def refused(address: str) -> bool:
    """Whether the dashboard turns away this machine's token."""
    import requests

    token = tokens.find_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.get(f"{address.rstrip('/')}/api/version", headers=headers, timeout=20)
    except requests.RequestException:
        return False  # who is not there is told apart elsewhere
    return answer.status_code in (401, 403)


def submit(
    spec: StudySpec,
    remote: Remote,
    *,
    out: str | None,
    flags: Sequence[str],
    say: Callable[[str], None],
) -> tuple[Any, str, str]:
    """Sends a study; where a job of the same study still runs, that is the one.

    Args:
        out: where rows go, an address that all nodes share; None: the head's disk, through the driver.
        flags: words for the end of the job's command.
    Returns:
        The client, the job's id, and the folder where its rows are.
    Raises:
        UsageError: a job of this name runs, and it is another study, other code, or goes elsewhere.
        RunError: the head does not take the job.
    """
    client = remote.client()
    base = "optgrid-" + re.sub(r"[^\w.-]+", "-", spec.name)
    jobs = _jobs(client, base)
    folder = out or f"~/{HEAD_FOLDER}/{spec.name}"
    with tempfile.TemporaryDirectory(prefix="optgrid-job-") as parcel:
        pack(spec, Path(parcel))
        metadata = {"study": spec.name, "out": folder, "content": _content(Path(parcel))}
        for number, found in jobs.items():
            if str(found.status.value) not in FINISHED:
                job = f"{base}-r{number}"
                _require_same(job, found.metadata or {}, metadata)
                say(f"job {job} is at it already")
                return client, job, folder
        job = send(
            client,
            entrypoint=entrypoint(folder, gather=out is None, flags=flags),
            submission_id=f"{base}-r{max(jobs, default=0) + 1}",
            runtime_env={"working_dir": parcel},
            metadata=metadata,
        )
    return client, job, folder


def _content(folder: Path) -> str:
    """A hash of the study and the code that travel."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _require_same(job: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raises UsageError where a job of this study's name is not this study."""
    words = {"content": "another study, or other code", "out": f"rows for {theirs.get('out')}"}
    for key, what in words.items():
        if theirs.get(key) != ours[key]:
            raise UsageError(
                f"job {job} has this study's name and makes {what}: give another --name, wait for it, or "
                f"end it with 'ray job stop {job}'"
            )


def send(client: Any, **job: Any) -> str:
    """Submits a job; a head that has only just started is given time to find its agents.

    Returns:
        The job's id.
    Raises:
        RunError: the head does not take it.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise RunError(f"the cluster did not take the job: {reason}") from error
            time.sleep(POLL_SECONDS[0])


def entrypoint(folder: str, *, gather: bool, flags: Sequence[str]) -> str:
    """The command that the job runs on the head."""
    # The shell there expands the tilde: it is the head's home that is meant.
    place = f"~/{shlex.quote(folder[2:])}" if folder.startswith("~/") else shlex.quote(folder)
    words = ["optgrid", "run", STUDY, "--address", "auto", "--out", place, "--no-report"]
    words += ["--gather"] if gather else []
    return " ".join([*words, *flags])


def _jobs(client: Any, base: str) -> dict[int, Any]:
    """Jobs of a study's name: number → what the head says of it."""
    found = {}
    for job in client.list_jobs():
        match = re.fullmatch(re.escape(base) + r"-r(\d+)", job.submission_id or "")
        if match:
            found[int(match.group(1))] = job
    return found


def follow(client: Any, job: str, show: Callable[[str], None]) -> str:
    """Shows what a job prints until it ends.

    Args:
        show: takes text as it comes.
    Returns:
        The job's last status.
    Raises:
        RunError: the dashboard is out of reach for too long; the job goes on.
    """
    shown, pause, failing = 0, POLL_SECONDS[0], 0.0
    while True:
        try:
            # The status first: what was printed before the end is in the logs that are read after it.
            status = str(client.get_job_status(job).value)
            text = client.get_job_logs(job)
            failing = 0.0
        except (ConnectionError, RuntimeError, OSError) as error:
            failing = failing or time.monotonic()
            if time.monotonic() - failing > PATIENCE_SECONDS:
                raise RunError(
                    f"the dashboard does not answer any more ({type(error).__name__}); job {job} goes on: "
                    "the same command follows it again"
                ) from error
            time.sleep(POLL_SECONDS[1])
            continue
        if len(text) > shown:
            show(text[shown:])
            shown, pause = len(text), POLL_SECONDS[0]
        if status in FINISHED:
            return status
        time.sleep(pause)
        pause = min(POLL_SECONDS[1], pause * 1.5)


def fetch(client: Any, job: str, folder: str, into: Path) -> int:
    """Brings a results folder from the head's disk, as the output of a small job there.

    Returns:
        How many files came.
    Raises:
        RunError: they cannot be sent, or what came is not whole.
    """
    place = f"~/{shlex.quote(folder[2:])}" if folder.startswith("~/") else shlex.quote(folder)
    number = 1 + sum((each.submission_id or "").startswith(f"{job}-fetch-") for each in client.list_jobs())
    sending = send(
        client, entrypoint=f"optgrid cluster export {place}", submission_id=f"{job}-fetch-{number}"
    )
    text: list[str] = []
    status = follow(client, sending, text.append)
    if status != "SUCCEEDED":
        last = "".join(text).strip().splitlines()[-1:] or ["it printed nothing"]
        raise RunError(f"the results in {folder} on the head could not be sent: {last[0]}")
    return parcels.unpack("".join(text), into)
