"""From a command to the event loop and back to an exit code: the only place that starts one and maps errors.

Exit codes: 0 done; 1 failed; 2 the words cannot be used; 3 not found; 4 not allowed; 5 wrong content; 6 rate limited;
130 interrupted; 143 terminated; 141 nobody reads stdout.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping

import typer

import asyncrane
from asyncrane.cli.options import Connection, Credentials, Loop
from asyncrane.cli.output import OutputClosed, let_stdout_go, note, trace

_SIGNALS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
_CLOSED = 141
_SEEN = "warning: others on this machine can see --src-creds and --dst-creds; ASYNCRANE_AUTH_<HOST> hides them"

_TURN = 0.0005
"""Seconds after which a busy event loop lets the thread that writes the journal have a turn. With Python's own 0.005
each of its statements waited so long, and all that waits for the journal too: a fleet took a third longer.
"""


def with_session(  # noqa: PLR0913  (they are the session's own)
    operation: Callable[[asyncrane.Session], Awaitable[None]],
    connection: Connection,
    *,
    credentials: Credentials | None = None,
    jobs: int | None = None,
    registries: Mapping[str, asyncrane.RegistryOptions] | None = None,
    journal: asyncrane.Journal | None = None,
    donors: asyncrane.Donors | None = None,
    planning: bool = False,
    rate: int | None = None,
    memory: int | None = None,
) -> None:
    """Run ``operation`` with a session as the options say, to its end.

    :raises typer.Exit: when it failed; why is on stderr
    """

    session_of = asyncrane.Session  # most modules are loaded here, where the collector does not yet run

    async def main() -> None:
        if connection.key is not None and connection.cert is None:
            raise asyncrane.InvalidInput("--key means nothing without --cert")
        wanted = credentials or Credentials()
        async with session_of(
            insecure=connection.insecure,
            source_credential=_credential(wanted.src_creds),
            destination_credential=_credential(wanted.dst_creds),
            jobs=jobs,
            ca=connection.ca,
            cert=connection.cert,
            key=connection.key,
            retries=connection.retries,
            retry_max_time=connection.retry_max_time,
            stall_timeout=connection.stall_timeout,
            trace=trace if connection.verbose else None,
            registries=registries,
            journal=journal,
            donors=donors,
            planning=planning,
            rate=rate,
            memory=memory,
        ) as session:
            await operation(session)
        if wanted.src_creds or wanted.dst_creds:
            note(_SEEN)

    if journal is not None:
        sys.setswitchinterval(_TURN)
    start(main, loop=connection.loop, verbose=connection.verbose)


def start(
    main: Callable[[], Awaitable[None]], *, loop: Loop = Loop.auto, verbose: bool = False, endless: bool = False
) -> None:
    """Run ``main`` in an event loop. ``endless`` says that being told to stop is how it is meant to end.

    :raises typer.Exit: when it failed or was told to stop; why is on stderr
    """
    import anyio

    # what is loaded by now stays, and requests leave few cycles: looking for them took a tenth of all time
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    with reporting(verbose=verbose), _logging(verbose=verbose):
        stopped = anyio.run(
            functools.partial(_until_signal, main, verbose=verbose), backend_options={"use_uvloop": _use_uvloop(loop)}
        )
        if stopped is not None and not endless:
            word, code = _SIGNALS[stopped]
            note(f"asyncrane: {word}")
            raise typer.Exit(code)


@contextlib.contextmanager
def reporting(*, verbose: bool = False) -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and an exit code.

    :raises typer.Exit: when something does
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as raised:
        error = _innermost(raised)
        if isinstance(error, typer.Exit):
            raise error from None
        if verbose and not isinstance(error, asyncrane.AsyncraneError | OSError | KeyboardInterrupt | OutputClosed):
            traceback.print_exception(raised)
        raise typer.Exit(_report(error)) from None


def _report(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        note("asyncrane: interrupted")
        return 130
    if isinstance(error, OutputClosed | BrokenPipeError):
        let_stdout_go()
        return _CLOSED
    if isinstance(error, asyncrane.AsyncraneError):
        note(f"asyncrane: error: {error}")
        return error.exit_code
    if isinstance(error, OSError):
        let_stdout_go()
        note(f"asyncrane: error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return 1
    note(f"asyncrane: error: unexpected {type(error).__name__}: {error} (-v shows where; please report it)")
    return 1


class _Lines(logging.Handler):
    """What libraries log, in one line: without a handler Python would write their tracebacks to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        error = record.exc_info[1] if record.exc_info else None
        words = f"{record.getMessage()}: {error}" if error else record.getMessage()
        note(f"asyncrane: {record.levelname.lower()}: {' '.join(words.split())}")


@contextlib.contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    """Errors that libraries log are shown (a request to our registry that cannot be answered), with -v warnings too."""
    handler = _Lines(logging.WARNING if verbose else logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


async def _until_signal(main: Callable[[], Awaitable[None]], *, verbose: bool) -> signal.Signals | None:
    """Run ``main`` until it ends or a signal says so; the second signal of a kind is not caught."""
    import asyncio

    import anyio

    loop = asyncio.get_running_loop()
    if not verbose:  # what nobody waited for any more changes nothing: what matters is raised
        loop.set_exception_handler(lambda loop, context: None)
    scope = anyio.CancelScope()
    seen: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        seen.append(number)
        loop.remove_signal_handler(number)
        scope.cancel()

    # elsewhere than in the main thread no signal arrives, and on Windows Ctrl-C does as KeyboardInterrupt
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.add_signal_handler(number, stop, number)
    with scope:
        await main()
        return None
    return seen[0] if seen else None


def _innermost(error: BaseException) -> BaseException:
    """The error that matters: out of groups of one, and of several the one that is ours."""
    while isinstance(error, BaseExceptionGroup):
        inner = error.exceptions
        error = next((e for e in inner if isinstance(e, asyncrane.AsyncraneError)), inner[0])
    return error


def _credential(text: str | None) -> asyncrane.Credential | None:
    return None if text is None else asyncrane.Credential.parse(text)


def _use_uvloop(loop: Loop) -> bool:
    if loop is Loop.asyncio:
        return False
    try:
        import uvloop  # noqa: F401 - whether it can be had
    except ImportError:
        if loop is Loop.uvloop:
            raise asyncrane.InvalidInput("uvloop is not installed") from None
        return False
    return True
