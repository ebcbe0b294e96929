"""Runs steps for a test in another skin: as an ordinary user, or as an ordinary container has it.

Reads one JSON object a line: a request, what of the host's facts to replace, where to work. Answers with one.
"""

import base64
import hashlib
import io
import json
import os
import sys
from dataclasses import replace

from run_step import (
    Inputs,
    LocalExecutor,
    RunRequest,
    RunStepError,
    Secret,
    enter_user_namespace,
    look_up,
    plan,
    probe,
)
from run_step.codec import encode
from run_step.pipeline import STAGES


def without_times(path):
    for top, directories, files in os.walk(path):
        for name in [*directories, *files]:
            os.utime(os.path.join(top, name), (0, 0), follow_symlinks=False)
    os.utime(path, (0, 0))


def layer(before, after):
    """The digest of the layer that makes ``after`` of ``before``, all times set to zero."""
    from buildfront.image.diff import Comparison
    from buildfront.image.layer import write_tar

    for path in (before, after):
        without_times(path)
    old, new = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (before, after))
    out = io.BytesIO()
    try:
        write_tar(list(Comparison(complete=True).walk(new, old)), new, out)
    finally:
        os.close(old)
        os.close(new)
    return hashlib.sha256(out.getvalue()).hexdigest()


class DeafAgent:
    """Stands for an agent where it is the socket alone that matters."""

    def ask(self, message):
        raise ConnectionRefusedError


def stand_ins(request):
    """What the request's mounts need: directories with a file, texts."""
    sources = {}
    for item in request.run_mounts:
        if item.source:
            sources[item.source] = path = os.path.join(f"{request.rootfs}-sources", item.source)
            os.makedirs(path, exist_ok=True)
            with open(os.path.join(path, "file"), "w") as stream:
                stream.write(item.source)
    ids = [item.id for item in request.run_mounts]
    return Inputs(sources, {name: Secret(name.encode()) for name in ids}, {name: DeafAgent() for name in ids})


def read_only_root(draft, request, facts):
    """The stage of the plugin guide."""
    draft.spec["root"]["readonly"] = True


def serve():
    warnings = enter_user_namespace()
    probed = None
    executors = {}
    for line in sys.stdin:
        job = json.loads(line)
        request = RunRequest.from_json(job["request"])
        if probed is None:
            probed = probe(runtimes=job["runtimes"])
        facts = replace(
            probed, **{key: tuple(v) if isinstance(v, list) else v for key, v in job["host"].items()}
        )
        executor = executors.setdefault(job["work_dir"], LocalExecutor(facts, job["work_dir"]))
        chunks = {"stdout": [], "stderr": []}
        answer = {"warnings": warnings}
        try:
            stages = (*STAGES, read_only_root) if job.get("read_only") else STAGES
            made = plan(request, look_up(request, facts), stages=stages)
            answer["warnings"] += made.warnings
            if job["run"]:
                result = executor.execute(
                    made,
                    request.rootfs,
                    output=lambda name, data, chunks=chunks: chunks[name].append(data),
                    timeout=job["timeout"],
                    inputs=stand_ins(request),
                )
                answer["result"] = encode(result)
                if job.get("pristine"):
                    answer["layer"] = layer(job["pristine"], request.rootfs)
            else:
                answer["plan"] = made.to_json()
        except (RunStepError, OSError) as error:
            answer["error"] = (type(error).__name__, str(error))
        answer |= {name: base64.b64encode(b"".join(data)).decode() for name, data in chunks.items()}
        print(json.dumps(answer), flush=True)
    for executor in executors.values():
        executor.close()


if __name__ == "__main__":
    serve()
