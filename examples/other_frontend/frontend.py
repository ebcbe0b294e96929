"""A frontend that is no Dockerfile builder: steps from a TOML file, run by the plugin alone.

usage: python frontend.py STEPS.toml ROOTFS

Each step is a table ``[[step]]`` with ``run`` and, if wanted, ``user``, ``cwd``, ``network`` and ``env``;
``[defaults]`` holds the same for all steps. The steps change ROOTFS in place. This is everything that a
frontend has to do: make a request, have it planned, have it executed, look at the result.
"""

from __future__ import annotations

import sys
import tomllib
from typing import Any

from run_step import HostError, LocalExecutor, RequestError, RunRequest


def request_of(step: dict[str, Any], defaults: dict[str, Any], rootfs: str) -> RunRequest:
    """One step as a RunRequest."""
    merged = {**defaults, **step}
    env = {**defaults.get("env", {}), **step.get("env", {})}
    return RunRequest(
        args=("/bin/sh", "-ec", merged["run"]),
        rootfs=rootfs,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        user=merged.get("user", ""),
        cwd=merged.get("cwd", ""),
        network=merged.get("network", "default"),
        isolation=merged.get("isolation", "auto"),
    )


def main(steps_file: str, rootfs: str) -> int:
    """Run the steps in order; the status of the first that fails, or 0."""
    with open(steps_file, "rb") as stream:
        recipe = tomllib.load(stream)
    executor = LocalExecutor()
    try:
        for number, step in enumerate(recipe["step"], 1):
            plan = executor.plan(request_of(step, recipe.get("defaults", {}), rootfs))
            result = executor.execute(plan, rootfs)
            print(f"step {number}: {result.describe()}, {result.wall_us / 1e6:.2f} s", file=sys.stderr)
            if result.exit_status:
                return result.exit_status
        return 0
    except (RequestError, HostError) as error:
        print(f"step {number}: {error}", file=sys.stderr)
        return 1
    finally:
        executor.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
