"""The processor that this runs on."""

import os
import platform


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor(*fields: str) -> str:
    """The first of these fields of Linux's /proc/cpuinfo; where there is none, the name of the processor's kind."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith(fields))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
