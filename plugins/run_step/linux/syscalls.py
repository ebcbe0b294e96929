"""Numbers of system calls that an older libseccomp does not know.

Since Linux 5.1 a new call has the same number on every architecture, from 403 on
(arch/*/syscalls/syscall.tbl).
"""

from __future__ import annotations

_SINCE_424 = (
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount"
    " fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr"
    " quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease"
    " futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue"
    " statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat"
    " listxattrat removexattrat open_tree_attr file_getattr file_setattr listns"
).split()

EVERYWHERE: dict[str, int] = {name: 424 + index for index, name in enumerate(_SINCE_424)}
"""The numbers by name, the same on every architecture, in ascending order."""

_OF_ONE: dict[str, dict[str, int]] = {
    "x86_64": {"uretprobe": 335, "uprobe": 336},
    "riscv64": {"riscv_hwprobe": 258, "riscv_flush_icache": 259},
}


def number(name: str, architecture: str) -> int | None:
    """Return a call's number on an architecture (in libseccomp's spelling); None if it is not listed here."""
    return _OF_ONE.get(architecture, {}).get(name, EVERYWHERE.get(name))
