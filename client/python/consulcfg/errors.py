"""What consulcfg raises. Every message says what to do next; none holds a value.

    Error
        NotFound (KeyError)                 no such key; NoAttribute where an attribute was asked for
        InvalidValue (ValueError)           a value that does not parse as the type that was asked for
            NotText (UnicodeDecodeError)    a value that is not UTF-8 was read as str
        InvalidName (ValueError)            not a service name, or not a key
        AccessDenied (PermissionError)      this user may not read the service
        Unavailable (ConnectionError)       no daemon
            TimedOut (TimeoutError)         a daemon, but no data in time
        Closed (ValueError)                 a read after close()
"""

from __future__ import annotations

import errno as _errno


class Error(Exception):
    """All errors of consulcfg. `errno` is a number of the module errno, or 0."""

    def __init__(self, message: str, errno: int = 0) -> None:
        self.message = message
        if isinstance(self, OSError):
            super().__init__(errno, message)
        else:
            super().__init__(message)
        self.errno = errno

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self):
        return type(self), (self.message, self.errno)


class NotFound(Error, KeyError):
    """There is no such key."""

    def __init__(self, message: str, errno: int = _errno.ENOENT) -> None:
        super().__init__(message, errno)


class NoAttribute(NotFound, AttributeError):
    """There is no such key, where an attribute was asked for: hasattr() and getattr() understand it."""


class InvalidValue(Error, ValueError):
    """A value does not parse as the type it was asked for (errno EINVAL), or does not fit (ERANGE)."""

    def __init__(self, message: str, errno: int = _errno.EINVAL) -> None:
        super().__init__(message, errno)


class NotText(InvalidValue, UnicodeDecodeError):
    """A value that is not UTF-8 was read as str; bytes() reads it. Unlike Python's own, it does not hold the value."""

    def __init__(self, message: str, errno: int = _errno.EINVAL) -> None:
        UnicodeDecodeError.__init__(self, "utf-8", b"", 0, 0, message)
        self.message = message
        self.errno = errno


class InvalidName(Error, ValueError):
    """Not the name of a service, or of a key."""

    def __init__(self, message: str, errno: int = _errno.EINVAL) -> None:
        super().__init__(message, errno)


class AccessDenied(Error, PermissionError):
    """This user may not read the service, or not connect to the socket."""


class Unavailable(Error, ConnectionError):
    """No daemon at the socket."""


class TimedOut(Unavailable, TimeoutError):
    """A daemon, but no data (with require_live: no live data) within the time."""


class Closed(Error, ValueError):
    """It was closed."""

    def __init__(self, message: str, errno: int = _errno.EBADF) -> None:
        super().__init__(message, errno)
