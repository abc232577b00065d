"""Logs with one JSON object on each line. Logs hold texts of requests only if the user asks for the texts."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import datetime, timezone
from typing import Any

__all__ = ["JsonFormatter", "use_json_logs"]


class JsonFormatter(logging.Formatter):
    """Writes a log record as a JSON object, with time, level, logger, message and the keys of the record's `fields`.

    If the record has an exception, the object also holds the exception's type and the places in the code that it passed
    through.

    Args:
        texts: whether to write the message of an exception too. The message may quote a passage.
    """

    def __init__(self, texts: bool = False) -> None:
        super().__init__()
        self.texts = texts

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["places"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
            if self.texts:
                line["reason"] = str(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def use_json_logs(texts: bool = False) -> None:
    """Make all handlers of the root logger write JSON. Python's warnings are logged too.

    Args:
        texts: see `JsonFormatter`.
    """
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter(texts))
