"""The command `at2-prune serve`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
from dataclasses import fields

from ..errors import InputError, need_package
from ..pipeline.config import SETTINGS, PruneConfig
from ..server.limits import Limits
from .options import positive

logger = logging.getLogger(__name__)

HELP = "Serve reranking, pruning and attribution over HTTP."
EXAMPLES = """examples:
  at2-prune serve
  at2-prune serve --host 0.0.0.0 --port 8000 --config pipeline.yaml
  AT2_PRUNE_API_KEY=… at2-prune serve --method bm25

Clients of Cohere, Jina and Text Embeddings Inference can use this server; docs/serving.md says how. A setting given as
an option overrides the environment, and the environment overrides the file of --config.
http://127.0.0.1:8080/docs describes every endpoint. If AT2_PRUNE_API_KEY is set, clients must send this key. Logs are
JSON lines on stderr. Unless --log-texts is given, the logs do not hold the texts of requests. After Ctrl-C or SIGTERM,
the server answers the requests that it has accepted, and then ends."""

KEY_VARIABLE = "AT2_PRUNE_API_KEY"
_NOT_SERVED = ("enabled", "title_key")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="the port to listen on (default: 8080)")
    parser.add_argument(
        "--config", metavar="FILE", help="a .yaml, .json or .toml file with pruning settings (default: none)"
    )
    parser.add_argument(
        "--log-texts",
        action="store_true",
        help="write the questions and documents of requests to the log (default: no)",
    )
    settings = parser.add_argument_group("pruning", "settings that override the environment and the file of --config")
    for name, field in SETTINGS.items():
        kind = field.metadata["kind"]
        if name not in _NOT_SERVED:
            settings.add_argument(
                "--" + name.replace("_", "-"),
                dest=f"setting_{name}",
                type=kind.parse,
                metavar=field.metadata["metavar"] or "|".join(kind.choices) or "VALUE",
                help=_help(field.metadata["help"], field.default),
            )
    limits = parser.add_argument_group("limits")
    for limit in fields(Limits):
        limits.add_argument(
            "--" + limit.name.replace("_", "-"),
            type=positive,
            default=limit.default,
            metavar="N",
            help=f"{limit.metadata['help']} (default: {limit.default})",
        )


def _help(text: str, default: object) -> str:
    """Return a setting's help text, in which the setting's default is named.

    The option has no argparse default, because such a default would override the config file.
    """
    said = "if not given" in text.lower()
    return text.replace("%", "%%") + ("" if said else f" (default: {'none' if default is None else default})")


def run(args: argparse.Namespace) -> None:
    """Load the model and serve until a signal ends the server."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        need_package(package, "serve", "at2-prune serve", package.replace("_", "-"))

    import uvicorn

    from ..pipeline.step import PruneStep
    from ..server.app import create_app
    from ..server.logs import use_json_logs

    use_json_logs(args.log_texts)
    given = {name: getattr(args, f"setting_{name}") for name in SETTINGS if name not in _NOT_SERVED}
    config = PruneConfig.load(args.config, **{name: value for name, value in given.items() if value is not None})
    limits = Limits(**{limit.name: getattr(args, limit.name) for limit in fields(Limits)})
    with bound_socket(args.host, args.port) as address:  # a wrong address must raise an error before the model loads
        app = create_app(PruneStep(config), limits, os.environ.get(KEY_VARIABLE), args.log_texts)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than clients keep a connection, so that the client closes it first
                timeout_graceful_shutdown=args.timeout + 5,  # by then, each request is answered or has timed out
            )
        )
        logger.info("serving on http://%s:%d", *address.getsockname()[:2])
        with contextlib.suppress(KeyboardInterrupt):  # raised after Ctrl-C has ended the server
            server.run(sockets=[address])


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address but does not listen yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.socket(family, proto=socket.IPPROTO_TCP)  # without proto, asyncio leaves Nagle's algorithm on
    address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        address.bind((host, port))
    except (OSError, OverflowError) as error:
        address.close()
        raise InputError(f"cannot listen on {host}:{port} ({error}): choose another --host or --port") from None
    return address
