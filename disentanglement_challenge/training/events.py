"""Write training curves and pictures for TensorBoard."""

import io
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from disentanglement_challenge.errors import OutputError


class EventLog:
    """An event file for the scalars and pictures of a training run; each is on the disk when the call returns.

    Not tensorboardX's SummaryWriter: it writes from a thread of its own, and once that has died of a full disk, the
    next scalar waits for it for ever.
    """

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        """Start a new file, and withdraw events after `steps_done` in the folder's earlier files.

        Raises:
            OutputError: the file cannot be written.
        """
        self._folder = folder
        try:
            # The library names files by the second, and writes a file over another of the same name; TensorBoard reads
            # them in the order of their names.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        except OSError as error:
            raise self._refused(error) from error
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(event_pb2.Event(step=steps_done + 1, session_log=start))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append the values after `step` updates.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        summary = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self._append(event_pb2.Event(step=step, summary=summary))

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Append pictures, uint8 [height, width, 1 or 3 channels], after `step` updates.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        summary = summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=tag, image=_encoded(image)) for tag, image in images.items()]
        )
        self._append(event_pb2.Event(step=step, summary=summary))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
        except OSError:  # what could not be written has been reported
            # It has left the file open, whose end Python 3.13 and newer would report once more.
            with suppress(OSError):
                self._writer._py_recordio_writer.close()

    def _append(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write events to {self._folder}: {error.strerror or error}")


def _encoded(image: NDArray[np.uint8]) -> summary_pb2.Summary.Image:
    height, width, channels = image.shape
    encoded = io.BytesIO()
    # The default compression takes several times as long for a tenth of the size.
    Image.fromarray(image[:, :, 0] if channels == 1 else image).save(encoded, "png", compress_level=1)
    return summary_pb2.Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=encoded.getvalue()
    )
