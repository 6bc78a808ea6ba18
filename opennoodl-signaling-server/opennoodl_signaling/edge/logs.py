"""Logs: one structured line an event, on standard output.

No token, query string, message body or room name belongs in a line above debug.
"""

import logging
import re
import sys

import structlog

# A traceback's local variables would hold messages and tokens.
_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _on_one_line(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what would end the line or speak to the terminal; structlog does that with all but the event itself."""
    event["event"] = _CONTROL.sub(lambda found: repr(found[0])[1:-1], str(event["event"]))
    return event


def configure(level: str, form: str) -> None:
    """Send structlog's events and the standard library's records to standard output.

    Args:
        level: the least level that is shown: debug, info, warning or error.
        form: ``json`` for one JSON object a line, ``text`` for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor]
    if form == "json":
        render = [structlog.processors.ExceptionRenderer(_traceback), structlog.processors.JSONRenderer()]
    else:
        render = [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Below its errors, the websockets library logs request lines, which hold room names and tokens.
    logging.getLogger("websockets").setLevel(logging.ERROR)
    # Below its warnings, httpx logs the URL of every question, with the query.
    for name in ("asyncio", "httpcore", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
