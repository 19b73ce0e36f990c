"""data.cache: what a process that was killed has built is deleted; what another builds is not."""

import fcntl

from cgan_tf.data import cache


def test_only_what_nobody_builds_any_more_is_deleted(tmp_path):
    for name in (".building-dead", ".building-alive", ".building-begun", "other"):
        (tmp_path / name).mkdir()
    for name in (".building-dead", ".building-alive", "other"):
        (tmp_path / name / "lock").write_bytes(b"x")
    with open(tmp_path / ".building-alive" / "lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cache._remove_abandoned(tmp_path)
        found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [".building-alive", ".building-begun", "other"]
    cache._remove_abandoned(tmp_path)
    assert not (tmp_path / ".building-alive").exists()


def test_what_is_being_built_is_locked(tmp_path):
    dead = tmp_path / ".building-dead"
    dead.mkdir()
    (dead / "lock").touch()
    with cache.building(tmp_path) as first:
        assert list(tmp_path.iterdir()) == [first]
        (first / "pixels").touch()
        with cache.building(tmp_path) as second:
            assert (first / "pixels").exists() and second != first
    assert list(tmp_path.iterdir()) == []
