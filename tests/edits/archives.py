"""Edits of tars as archives: bytes, headers, and which members lie where."""

import gzip
import tarfile
from pathlib import Path
from random import Random

from tests.edits.edit import (
    CARD,
    DIGEST,
    ROWS,
    Change,
    Edit,
    Member,
    a_tar,
    on_members,
    plain_member,
    read_tar,
    samples,
    two_tars,
    write_tar,
)

BLOCK = tarfile.BLOCKSIZE


def _flipped(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _header_flipped(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = bytearray(path.read_bytes())
    header = draw.choice(read_tar(path)).info.offset
    data[header + draw.randrange(257)] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _swapped_bytes(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = bytearray(path.read_bytes())
    a, b = draw.sample(range(len(data)), 2)
    data[a], data[b] = data[b], data[a]
    path.write_bytes(data)


def _swapped_blocks(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = bytearray(path.read_bytes())
    a, b = (BLOCK * number for number in draw.sample(range(len(data) // BLOCK), 2))
    data[a : a + BLOCK], data[b : b + BLOCK] = data[b : b + BLOCK], data[a : a + BLOCK]
    path.write_bytes(data)


def _zeroed(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = bytearray(path.read_bytes())
    start = BLOCK * draw.randrange(len(data) // BLOCK)
    data[start : start + BLOCK] = bytes(BLOCK)
    path.write_bytes(data)


def _cut(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def _cut_in_a_member(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    info = draw.choice(read_tar(path)).info
    path.write_bytes(path.read_bytes()[: info.offset_data + draw.randrange(1, info.size)])


def _emptied(draw: Random, folder: Path) -> None:
    a_tar(draw, folder).write_bytes(b"")


def _only_an_end(draw: Random, folder: Path) -> None:
    write_tar(a_tar(draw, folder), [])


def _zeros_after(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    path.write_bytes(path.read_bytes() + bytes(BLOCK * draw.randrange(1, 30)))


def _garbage_after(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, 2000)))


def _no_end(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    last = read_tar(path)[-1].info
    path.write_bytes(path.read_bytes()[: last.offset_data + -(-last.size // BLOCK) * BLOCK])


def _gzipped(draw: Random, folder: Path) -> None:
    path = a_tar(draw, folder)
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def _other_form(form: int) -> Change:
    def change(draw: Random, folder: Path) -> None:
        path = a_tar(draw, folder)
        members = read_tar(path)
        for member in members:
            if form == tarfile.PAX_FORMAT:
                member.info.pax_headers = {"comment": "mine"}
        write_tar(path, members, form)

    return change


def _header(draw: Random, members: list[Member]) -> list[Member]:
    field, value = draw.choice(
        [("mtime", 1_700_000_000), ("mode", 0o644), ("uid", 1000), ("gid", 1000), ("uname", "me"), ("gname", "me")]
    )
    for member in members if draw.random() < 0.5 else [draw.choice(members)]:
        setattr(member.info, field, value)
    return members


def _replaced(members: list[Member], old: Member, *new: Member) -> list[Member]:
    return [made for member in members for made in (new if member is old else (member,))]


def _renamed(draw: Random, members: list[Member]) -> list[Member]:
    old = draw.choice(members)
    return _replaced(members, old, old.named(f"{old.key}.{draw.choice(['mask', 'Source', 'x'])}.{old.extension}"))


def _in_a_folder(draw: Random, members: list[Member]) -> list[Member]:
    prefix = draw.choice(["./", "data/", "../", "/"])
    return [member.named(prefix + member.name) for member in members]


def _key_renamed(draw: Random, members: list[Member]) -> list[Member]:
    key = draw.choice(members).key
    new = key[:-1] + ("0" if key[-1] != "0" else "1")
    return [member.named(f"{new}.{member.extension}") if member.key == key else member for member in members]


def _keys_exchanged(draw: Random, members: list[Member]) -> list[Member]:
    a, b = draw.sample([sample[0].key for sample in samples(members)], 2)
    names = {a: b, b: a}
    return [member.named(f"{names.get(member.key, member.key)}.{member.extension}") for member in members]


def _members_reordered(draw: Random, members: list[Member]) -> list[Member]:
    return [member for sample in samples(members) for member in draw.sample(sample, len(sample))]


def _samples_reordered(draw: Random, members: list[Member]) -> list[Member]:
    found = samples(members)
    return [member for sample in draw.sample(found, len(found)) for member in sample]


def _interleaved(draw: Random, members: list[Member]) -> list[Member]:
    a, b = draw.sample(samples(members), 2)
    mixed = [a[0], b[0], *a[1:], *b[1:]]
    return [member for member in members if member not in mixed] + mixed


def _sample_doubled(draw: Random, members: list[Member]) -> list[Member]:
    sample = draw.choice(samples(members))
    return [*members, *(member.named(member.name) for member in sample)]


def _sample_removed(draw: Random, members: list[Member]) -> list[Member]:
    key = draw.choice(members).key
    return [member for member in members if member.key != key]


def _member_removed(draw: Random, members: list[Member]) -> list[Member]:
    return _replaced(members, draw.choice(members))


def _member_doubled(draw: Random, members: list[Member]) -> list[Member]:
    old = draw.choice(members)
    return _replaced(members, old, old, old.named(old.name))


def _member_added(draw: Random, members: list[Member]) -> list[Member]:
    old = draw.choice(members)
    name = draw.choice(["notes.txt", "mask.png", "source9.png", "JSON", "edited.jpg", "__key__", "edited.png.bak"])
    return _replaced(members, old, old, plain_member(f"{old.key}.{name}", draw.randbytes(20)))


def _stray_member(draw: Random, members: list[Member]) -> list[Member]:
    old = draw.choice(members)
    name = draw.choice(["README", ".DS_Store", "._" + old.name, "other-key.json", "\x1b[31mred.json", ""])
    return _replaced(members, old, old, plain_member(name, b"{}"))


def _special_member(draw: Random, members: list[Member]) -> list[Member]:
    old = draw.choice(members)
    kind = draw.choice([tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    made = plain_member(old.name if draw.random() < 0.5 else f"{old.key}.extra", b"")
    made.info.type, made.info.linkname = kind, members[0].name
    return _replaced(members, old, *((made,) if made.name == old.name else (old, made)))


def _members_exchanged(draw: Random, members: list[Member]) -> list[Member]:
    a, b = draw.sample(samples(members), 2)
    extension = draw.choice(sorted({one.extension for one in a} & {one.extension for one in b}))
    one, other = (next(member for member in sample if member.extension == extension) for sample in (a, b))
    one.data, other.data = other.data, one.data
    return members


def _pictures_exchanged(draw: Random, members: list[Member]) -> list[Member]:
    sample = {member.extension: member for member in draw.choice(samples(members))}
    a, b = sample["source.png"], sample["edited.png"]
    a.data, b.data = b.data, a.data
    return members


def _exchanged(same_split: bool) -> Change:
    def change(draw: Random, folder: Path) -> None:
        a, b = two_tars(draw, folder, same_split)
        one, other = a.read_bytes(), b.read_bytes()
        a.write_bytes(other)
        b.write_bytes(one)

    return change


def _copied_over(draw: Random, folder: Path) -> None:
    a, b = two_tars(draw, folder, same_split=True)
    b.write_bytes(a.read_bytes())


def _concatenated(draw: Random, folder: Path) -> None:
    a, b = two_tars(draw, folder, same_split=draw.random() < 0.5)
    a.write_bytes(a.read_bytes() + b.read_bytes())


def _moved(same_split: bool, part_of_a_request: bool) -> Change:
    """Takes one sample, or all of one request, from a tar to another."""

    def change(draw: Random, folder: Path) -> None:
        a, b = two_tars(draw, folder, same_split)
        members = read_tar(a)
        keys = [sample[0].key for sample in samples(members)]
        requests = [key.split("-")[0] for key in keys]
        several = [key for key, request in zip(keys, requests, strict=True) if requests.count(request) > 1]
        key = draw.choice(several or keys) if part_of_a_request else draw.choice(keys).split("-")[0]
        write_tar(b, read_tar(b) + [member for member in members if member.key.startswith(key)])
        write_tar(a, [member for member in members if not member.key.startswith(key)])

    return change


EDITS = (
    Edit("tar: bit flipped", _flipped),
    Edit("tar: bit of a header flipped", _header_flipped),
    Edit("tar: two bytes exchanged", _swapped_bytes),
    Edit("tar: two blocks exchanged", _swapped_blocks),
    Edit("tar: block zeroed", _zeroed),
    Edit("tar: cut", _cut),
    Edit("tar: cut in a member", _cut_in_a_member, CARD),
    Edit("tar: emptied", _emptied, ROWS),
    Edit("tar: without members", _only_an_end, ROWS),
    Edit("tar: zeros after it", _zeros_after),
    Edit("tar: garbage after it", _garbage_after),
    Edit("tar: end marker removed", _no_end),
    Edit("tar: gzipped", _gzipped, CARD),
    Edit("tar: pax format", _other_form(tarfile.PAX_FORMAT)),
    Edit("tar: time, mode or owner of members", on_members(_header)),
    Edit("tar: member renamed", on_members(_renamed), ROWS),
    Edit("tar: members in a folder", on_members(_in_a_folder), CARD),
    Edit("tar: key renamed", on_members(_key_renamed), CARD),
    Edit("tar: two keys exchanged", on_members(_keys_exchanged), CARD),
    Edit("tar: members of samples reordered", on_members(_members_reordered)),
    Edit("tar: samples reordered", on_members(_samples_reordered)),
    Edit("tar: two samples interleaved", on_members(_interleaved), CARD),
    Edit("tar: sample doubled", on_members(_sample_doubled), CARD),
    Edit("tar: sample removed", on_members(_sample_removed), ROWS),
    Edit("tar: member removed", on_members(_member_removed), CARD),
    Edit("tar: member doubled", on_members(_member_doubled), CARD),
    Edit("tar: member added", on_members(_member_added), ROWS),
    Edit("tar: stray member", on_members(_stray_member), CARD),
    Edit("tar: folder, link or device as member", on_members(_special_member), CARD),
    Edit("tar: members of two samples exchanged", on_members(_members_exchanged), DIGEST),
    Edit("tar: source and candidate exchanged", on_members(_pictures_exchanged), DIGEST),
    Edit("tar: exchanged with one of its split", _exchanged(True)),
    Edit("tar: exchanged with one of another split", _exchanged(False), CARD),
    Edit("tar: copied over another", _copied_over, CARD),
    Edit("tar: two concatenated", _concatenated),
    Edit("tar: request moved to one of its split", _moved(True, False), ROWS),
    Edit("tar: request torn apart", _moved(True, True), CARD),
    Edit("tar: request moved to another split", _moved(False, False), CARD),
)
