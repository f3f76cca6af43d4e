"""Copy the prices of a universe from one place to another, e.g. from the workspace to an object store."""

from pipeline.errors import InputError, StoreError
from pipeline.prices.store import PriceStore
from pipeline.prices.table_location import TableLocation

__all__ = ["copy_prices"]


def copy_prices(source: PriceStore, target: PriceStore) -> int:
    """Copy every row with its seq, so that sealed forecasts can still be replayed, and return the number of files.

    The checksums come first and the log last: until the next copy completes it, one that was interrupted is refused as
    damaged, so that no run begins a new store there. At the end each file is read back and compared with its checksum.

    Raises:
        InputError: there is nothing to copy, or other prices are there.
        StoreError: a file cannot be read or written, or does not read back.
    """
    source.append(run="copy")  # no row, but the checksums that are missing
    place = TableLocation(target.folder, target.url)
    with source.locked_files() as files:
        names = {path.relative_to(source.folder).as_posix(): path for path in files}
        if not names:
            raise InputError(
                "There are no prices to copy", where=source.place, fix="nextday update fetches them"
            )
        if others := place.names() - names.keys():
            raise InputError(
                f"Other prices lie there already, e.g. {min(others)}",
                where=target.place,
                fix="name another place, or move those away",
            )
        for name in sorted(names, key=lambda name: (name.startswith("_delta_log/"), "=" in name, name)):
            place.put(name, names[name])
    target.scan()
    if (target.seq(), target.count_unchecked()) != (source.seq(), 0):
        raise StoreError(
            f"The copy has version {target.seq()}, and the original version {source.seq()}",
            where=target.place,
            fix="let no run write during the copy, and run it again",
        )
    return len(names)
