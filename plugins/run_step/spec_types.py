"""The types of what this package reads in an OCI runtime configuration (runtime-spec, config.md and config-linux.md).

A configuration that comes as JSON is checked against them. Fields that are not listed are left to the OCI runtime.
"""

# Annotations are evaluated here: as strings, Required and NotRequired would not be seen in them (bpo-43923).
from typing import Any, NotRequired, TypedDict


class User(TypedDict):
    """The identity of the process."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]


class ConsoleSize(TypedDict):
    """The size of the terminal, in characters."""

    width: int
    height: int


class Rlimit(TypedDict):
    """A resource limit (getrlimit(2))."""

    type: str
    soft: int
    hard: int


class Process(TypedDict):
    """The command and its privileges."""

    args: list[str]
    env: list[str]
    cwd: str
    user: User
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    capabilities: NotRequired[dict[str, list[str]]]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]
    oomScoreAdj: NotRequired[int]


class RootFilesystem(TypedDict):
    """The root filesystem; in a plan its path is ``@rootfs@``."""

    path: str
    readonly: NotRequired[bool]


class Mount(TypedDict):
    """One mount."""

    destination: str
    type: str
    source: str
    options: list[str]


class Namespace(TypedDict):
    """A new namespace, or the existing one at ``path``."""

    type: str
    path: NotRequired[str]


class Mapping(TypedDict):
    """One line of an ID map (user_namespaces(7))."""

    containerID: int
    hostID: int
    size: int


class Device(TypedDict):
    """A device node."""

    path: str
    type: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class Cpu(TypedDict, total=False):
    """Limits of processor time."""

    shares: int
    quota: int
    period: int
    cpus: str
    mems: str


class Memory(TypedDict, total=False):
    """Limits of memory, in bytes."""

    limit: int
    swap: int


class Pids(TypedDict, total=False):
    """The limit of processes and threads."""

    limit: int


class Resources(TypedDict, total=False):
    """The limits of the control group."""

    devices: list[dict[str, Any]]
    cpu: Cpu
    memory: Memory
    pids: Pids


class Argument(TypedDict):
    """A comparison of an argument of a system call."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class SystemCalls(TypedDict):
    """A rule of the seccomp filter."""

    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[Argument]]


class Seccomp(TypedDict):
    """The seccomp filter."""

    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    syscalls: NotRequired[list[SystemCalls]]


class Linux(TypedDict):
    """The part of a configuration that is for Linux."""

    namespaces: list[Namespace]
    uidMappings: NotRequired[list[Mapping]]
    gidMappings: NotRequired[list[Mapping]]
    devices: NotRequired[list[Device]]
    cgroupsPath: NotRequired[str]
    resources: NotRequired[Resources]
    sysctl: NotRequired[dict[str, str]]
    seccomp: NotRequired[Seccomp]
    rootfsPropagation: NotRequired[str]
    maskedPaths: NotRequired[list[str]]
    readonlyPaths: NotRequired[list[str]]
    mountLabel: NotRequired[str]


class Hook(TypedDict):
    """A program of the host that the OCI runtime calls."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Spec(TypedDict):
    """The whole configuration."""

    process: Process
    root: RootFilesystem
    mounts: list[Mount]
    linux: Linux
    ociVersion: NotRequired[str]
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    annotations: NotRequired[dict[str, str]]
    hooks: NotRequired[dict[str, list[Hook]]]
