"""Runs steps for a test in another skin: as an ordinary user, or as an ordinary container has it.

Reads one JSON object a line: a request, what of the host's facts to replace, where to work. Answers with one.
"""

import base64
import json
import sys
from dataclasses import replace

from run_step import LocalExecutor, RunRequest, RunStepError, enter_user_namespace, look_up, plan, probe
from run_step.codec import encode


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
            made = plan(request, look_up(request, facts))
            answer["warnings"] += made.warnings
            if job["run"]:
                result = executor.execute(
                    made,
                    request.rootfs,
                    output=lambda name, data, chunks=chunks: chunks[name].append(data),
                    timeout=job["timeout"],
                )
                answer["result"] = encode(result)
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
