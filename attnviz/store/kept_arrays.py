"""The part of a store that keeps findings' large arrays: which file is whose is known to the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import sqlalchemy as sa

from attnviz.errors import StoreError
from attnviz.store import arrays as files
from attnviz.store import rows, tables
from attnviz.store.base import Base


class KeptArrays(Base):
    """Arrays of findings, all of a finding's in one file."""

    def save_arrays(self, finding: str, arrays: Mapping[str, npt.NDArray[Any]], *, by: str) -> None:
        """Keep a finding's large arrays, in place of earlier ones: all of them or, where this raises, none.

        raises   InputError for anybody but its owner, too many bytes, or no numbers; StoreError where they do not fit
        """
        by, data = rows.person(by), files.packed(arrays, self._most_array_bytes)
        with self._reading() as db:
            self._owned(db, finding, by)
        file, sha256 = files.write_whole(self._folder, finding, data)
        here = tables.arrays.c.finding == finding
        try:
            with self._writing() as db:
                self._owned(db, finding, by)
                old = list(db.execute(sa.select(tables.arrays.c.file).where(here)).scalars())
                db.execute(sa.delete(tables.arrays).where(here))
                self._fits(db, len(data))
                values = {"finding": finding, "file": file, "sha256": sha256, "nbytes": len(data)}
                db.execute(sa.insert(tables.arrays).values(**values))
        except BaseException:
            if self._engine.dialect.name == "sqlite":  # elsewhere a lost answer may have been a yes: `sweep` will tell
                files.remove(self._folder, [file])
            raise
        files.remove(self._folder, old)

    def arrays(self, finding: str, *, by: str) -> files.Arrays:
        """A finding's arrays, {} where it has none; StoreError where the file is missing, torn or was changed."""
        by, missed = rows.person(by), ""
        while True:
            with self._reading() as db:
                self._seen(db, finding, by)
                row = db.execute(sa.select(tables.arrays).where(tables.arrays.c.finding == finding)).first()
            if row is None:
                return {}
            try:
                return files.read_whole(self._folder / row.file, row.sha256, row.nbytes)
            except FileNotFoundError as error:
                if missed == row.file:  # else it was replaced since its name was read
                    raise StoreError(
                        "This finding's arrays are missing. They are in the folder beside the database: copy both."
                    ) from error
                missed = row.file

    def sweep(self) -> None:
        """Remove files of arrays that kills left behind, a day old."""
        if self._folder.is_dir():
            with self._reading() as db:
                known = list(db.execute(sa.select(tables.arrays.c.file)).scalars())
            files.sweep(self._folder, known)
