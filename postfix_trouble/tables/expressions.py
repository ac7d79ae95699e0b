"""Regular expressions by the libraries that Postfix has for them.

regexp_table(5) is regcomp(3) and regexec(3) of the C library, pcre_table(5) is
libpcre2. What they match, what they catch and what they refuse differs in many places
from Python's re, so they are called themselves. Loaded only where such a table is used.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

from postfix_trouble.tables.base import NoLibraryError
from postfix_trouble.tables.patterns import Expression, RuleError

_PCRE = "libpcre2-8.so.0"

# Of the GNU C library, <regex.h> and <locale.h>.
_REG_EXTENDED, _REG_ICASE, _REG_NEWLINE, _REG_NOSUB = 1, 2, 4, 8
_LC_CTYPE_MASK = 1
# Each letter after a pattern turns its option over.
_POSIX_FLAGS = {"i": _REG_ICASE, "m": _REG_NEWLINE, "x": _REG_EXTENDED}

# Of <pcre2.h>.
_CASELESS, _DOTALL = 0x8, 0x20
_PERL_FLAGS = {
    "i": _CASELESS,
    "m": 0x400,
    "s": _DOTALL,
    "x": 0x80,
    "A": 0x80000000,
    "E": 0x10,
    "U": 0x40000,
    # Nothing to pcre2 any more.
    "X": 0,
}
_INFO_CAPTURECOUNT = 4
_ERROR_NOMATCH = -1
_UNSET = ctypes.c_size_t(-1).value


class _Compiled(ctypes.Structure):
    """regex_t of the GNU C library."""

    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("sizes_and_syntax", ctypes.c_ulong * 3),
        ("fastmap", ctypes.c_void_p),
        ("translate", ctypes.c_void_p),
        ("groups", ctypes.c_size_t),
        # Bits, and room to spare.
        ("rest", ctypes.c_char * 64),
    )


class _Place(ctypes.Structure):
    """regmatch_t."""

    _fields_ = (("start", ctypes.c_int), ("end", ctypes.c_int))


@functools.cache
def _c_library() -> tuple[ctypes.CDLL, int]:
    """The C library, and its C locale: the one that Postfix's daemons are in.

    In another, `.` is a character of several bytes and case is more than ASCII's.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        raise NoLibraryError("regex_t is known of the GNU C library only")
    library.newlocale.restype = ctypes.c_void_p
    library.uselocale.restype = ctypes.c_void_p
    library.uselocale.argtypes = [ctypes.c_void_p]
    locale = library.newlocale(_LC_CTYPE_MASK, b"C", None)
    if not locale:
        raise NoLibraryError("there is no C locale")
    return library, locale


class _Posix(Expression):
    """A regex_t."""

    def __init__(self, expression: bytes, options: int) -> None:
        self._library, self._locale = _c_library()
        self._compiled = _Compiled()
        status = self._in_c_locale(
            self._library.regcomp, ctypes.byref(self._compiled), expression, options
        )
        if status:
            text = ctypes.create_string_buffer(256)
            self._library.regerror(status, ctypes.byref(self._compiled), text, 256)
            raise RuleError(text.value.decode("ascii", "replace"))
        self.groups = self._compiled.groups
        self._catches = not options & _REG_NOSUB

    def search(self, text: bytes) -> Sequence[bytes] | None:
        """What the groups caught in a text, None if it does not match."""
        size = self.groups + 1 if self._catches else 0
        places = (_Place * size)()
        arguments = (ctypes.byref(self._compiled), text, ctypes.c_size_t(size), places)
        if self._in_c_locale(self._library.regexec, *arguments, 0):
            return None
        # One that caught nothing starts at -1.
        return [text[max(at.start, 0) : max(at.end, 0)] for at in places[1:]]

    def _in_c_locale(self, function: ctypes._NamedFuncPointer, *given: object) -> int:
        """Call a function in the C locale, which this thread is in only then."""
        before = self._library.uselocale(self._locale)
        try:
            status: int = function(*given)
        finally:
            self._library.uselocale(before)
        return status

    def __del__(self) -> None:
        # All zeros if it was not compiled: nothing happens.
        if hasattr(self, "_compiled"):
            self._library.regfree(ctypes.byref(self._compiled))


def posix(expression: bytes, flags: str, catches: bool) -> Expression:
    """Compile a regexp_table(5) pattern; case is ignored unless `flags` has an i.

    `catches`: whether its groups are of interest. Raises RuleError in the words of the
    C library, NoLibraryError.
    """
    options = _REG_EXTENDED | _REG_ICASE
    for flag in flags:
        options ^= _POSIX_FLAGS[flag]
    return _Posix(expression, options | (0 if catches else _REG_NOSUB))


@functools.cache
def _pcre_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_PCRE)
    except OSError as problem:
        raise NoLibraryError(str(problem)) from None
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
    library.pcre2_compile_8.restype = pointer
    library.pcre2_compile_8.argtypes = [
        ctypes.c_char_p, size, number, pointer, pointer, pointer
    ]  # fmt: skip
    library.pcre2_pattern_info_8.argtypes = [pointer, number, pointer]
    library.pcre2_match_data_create_from_pattern_8.restype = pointer
    library.pcre2_match_data_create_from_pattern_8.argtypes = [pointer, pointer]
    library.pcre2_match_8.argtypes = [
        pointer, ctypes.c_char_p, size, size, number, pointer, pointer
    ]  # fmt: skip
    library.pcre2_get_ovector_pointer_8.restype = ctypes.POINTER(size)
    library.pcre2_get_ovector_pointer_8.argtypes = [pointer]
    library.pcre2_match_data_free_8.argtypes = [pointer]
    library.pcre2_code_free_8.argtypes = [pointer]
    return library


class _Perl(Expression):
    """A pcre2_code."""

    _code = None

    def __init__(self, expression: bytes, options: int) -> None:
        self._library = library = _pcre_library()
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        where = (ctypes.byref(error), ctypes.byref(offset), None)
        size = len(expression)
        self._code = library.pcre2_compile_8(expression, size, options, *where)
        if not self._code:
            text = ctypes.create_string_buffer(256)
            library.pcre2_get_error_message_8(error, text, ctypes.c_size_t(256))
            said = text.value.decode("ascii", "replace")
            raise RuleError(f"error in regex at offset {offset.value}: {said}")
        groups = ctypes.c_uint32()
        library.pcre2_pattern_info_8(
            self._code, _INFO_CAPTURECOUNT, ctypes.byref(groups)
        )
        self.groups = groups.value

    def search(self, text: bytes) -> Sequence[bytes] | None:
        """What the groups caught in a text, None if it does not match, or if that
        would take too long to find out."""
        library = self._library
        # One for each call: other threads may search at the same time.
        data = library.pcre2_match_data_create_from_pattern_8(self._code, None)
        try:
            if library.pcre2_match_8(self._code, text, len(text), 0, 0, data, None) < 0:
                return None
            ends = library.pcre2_get_ovector_pointer_8(data)[: 2 * self.groups + 2]
        finally:
            library.pcre2_match_data_free_8(data)
        pairs = zip(ends[2::2], ends[3::2], strict=True)
        return [b"" if end == _UNSET else text[at:end] for at, end in pairs]

    def __del__(self) -> None:
        if self._code:
            self._library.pcre2_code_free_8(self._code)


def perl(expression: bytes, flags: str, _catches: bool) -> Expression:
    """Compile a pcre_table(5) pattern: case is ignored and `.` takes a newline.

    `flags` are the letters after the pattern; each turns its option over. Raises
    RuleError in the words of the library, NoLibraryError.
    """
    options = _CASELESS | _DOTALL
    for flag in flags:
        options ^= _PERL_FLAGS[flag]
    return _Perl(expression, options)
