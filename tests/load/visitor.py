"""A browser-like session: Streamlit's own messages over a websocket, and what a page's elements hold.

A visitor opens addresses, as a person does who clicks on links: each is a run of the page in the same session. What the
page ends up showing is reduced to the data of its pictures, so that two visits can be compared.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.parse
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

_MOST_BYTES = 1 << 30


@dataclass
class Seen:
    """What a page shows once its run is over.

    data      a digest of the data of its pictures, in order
    n         pictures
    said      errors and exceptions
    seconds   from the address to the end of the run
    """

    data: str
    n: int
    said: list[str]
    seconds: float


@dataclass
class Visitor:
    """One session on the server at `url`; to be closed."""

    url: str
    _socket: Any = field(init=False)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)
    _elements: dict[tuple[int, ...], Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        address = self.url.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = self._stack.enter_context(
            connect(address, subprotocols=["streamlit"], max_size=_MOST_BYTES, compression=None, proxy=None)
        )

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away, as a browser does whose tab is closed."""
        self._stack.close()

    def open(self, page: str, *, most_seconds: float = 300.0, **parameters: object) -> Seen:
        """Go to a page's address and wait until it stands; TimeoutError if it never does."""
        asked = BackMsg()
        asked.rerun_script.query_string = urllib.parse.urlencode(parameters)
        asked.rerun_script.page_name = page
        self._elements.clear()
        began = time.monotonic()
        self._socket.send(asked.SerializeToString())
        while not self._take(began + most_seconds - time.monotonic()):
            pass
        return self._seen(time.monotonic() - began)

    def _take(self, seconds: float) -> bool:
        """Take one message; whether the run is over with it."""
        message = ForwardMsg()
        message.ParseFromString(self._socket.recv(timeout=max(seconds, 0.01)))
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._elements.clear()
        elif kind == "delta":
            path = tuple(message.metadata.delta_path)
            if message.delta.WhichOneof("type") == "new_element":
                self._elements[path] = message.delta.new_element
            else:  # a block in its place: what stood in it is gone
                for old in [old for old in self._elements if old[: len(path)] == path]:
                    del self._elements[old]
        return bool(kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY)

    def _seen(self, seconds: float) -> Seen:
        digest, n, said = hashlib.sha256(), 0, []
        for _, element in sorted(self._elements.items()):
            kind = element.WhichOneof("type")
            if kind == "bidi_component":
                n += 1
                digest.update(_data(element.bidi_component))
            elif kind == "exception":
                said.append(f"{element.exception.type}: {element.exception.message}")
            elif kind == "alert" and element.alert.format == element.alert.ERROR:
                said.append(element.alert.body)
        return Seen(digest.hexdigest(), n, said, seconds)


def _data(component: Any) -> bytes:
    """What a component draws."""
    which = component.WhichOneof("data")
    if which is None:
        return b""
    data = getattr(component, which)
    if which == "json":
        return json.dumps(json.loads(data), sort_keys=True).encode()
    if which == "mixed":
        frames = [data.arrow_blobs[name].data for name in sorted(data.arrow_blobs)]
        return b"".join([data.json.encode(), *frames])
    return data if isinstance(data, bytes) else bytes(data.SerializeToString())
