"""Looking at what runs, from outside: waiting for it, its control groups, input on its way into a step."""

import os
import signal
import threading
from contextlib import contextmanager, suppress

from run_step.isolation.cgroup import UNIFIED, layout_of, remove


def until(condition):
    """Waits for what has to come by itself, and gives up after a generous time."""
    done = threading.Event()
    for _ in range(3000):
        if condition():
            return True
        done.wait(0.02)
    return False


def groups(name):
    """The directories whose name begins with ``name`` in every cgroup hierarchy that is mounted here."""
    found = []
    for point in {point for point, _ in layout_of().values()}:
        for top, directories, _ in os.walk(point):
            found += [os.path.join(top, one) for one in directories if one.startswith(name)]
    return sorted(found)


def groups_of(plan):
    """The groups of the steps that carry ``plan`` out."""
    return groups(f"buildfront-{plan.container_id[:12]}")


def group_file(pid, controller, v1, v2):
    """What a file of a process's group says, by its name in each version."""
    layout = layout_of(pid)
    point = layout.get(controller) or layout[UNIFIED]
    with open(os.path.join(point[1], v1 if controller in layout else v2), encoding="ascii") as stream:
        return stream.read().strip()


def clear(paths):
    """Remove groups that a step has left, with what runs in them: a failure must not become another test's."""
    for path in sorted((top for one in paths for top, _, _ in os.walk(one)), key=len, reverse=True):
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as stream:
            for pid in stream.read().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        remove(path)


def parent_of(pid):
    """The parent of a process."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return int(stream.read().rpartition(b")")[2].split()[1])


@contextmanager
def fed(data=b"", size=0, ends=True):
    """The reading end of a pipe into which a thread writes ``data``, then ``size`` null bytes.

    Unless it ``ends``, the pipe's other end stays open as long as the context.
    """
    reader, writer = os.pipe()
    left = threading.Event()

    def write():
        try:
            for chunk in (data, *(bytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(writer, view) :]
            if not ends:
                left.wait()
        except BrokenPipeError:
            pass  # nobody wants the rest
        finally:
            os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        left.set()
        thread.join()
