"""Whose request it is: the kernel knows which process holds the other end of a connection (Linux only)."""

from pathlib import Path

_LOCAL_ADDRESS, _INODE = 1, 9  # columns of /proc/net/tcp, see proc_net_tcp(5)


def holds_port(pid: int, port: int) -> bool:
    """Tell whether a process has an IPv4 socket on that port of its own side; false once it is dead."""
    root = Path(f"/proc/{pid}")
    try:
        lines = [line.split() for line in (root / "net/tcp").read_text().splitlines()[1:]]
        sockets = {
            f"socket:[{columns[_INODE]}]"
            for columns in lines
            if columns[_LOCAL_ADDRESS].endswith(f":{port:04X}")
        }
        return any(str(handle.readlink()) in sockets for handle in (root / "fd").iterdir())
    except OSError:
        return False
