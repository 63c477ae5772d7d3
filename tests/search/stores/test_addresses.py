from __future__ import annotations

import pytest

from bessemer.errors import ConfigError
from bessemer.search.stores.addresses import parse_address


@pytest.mark.parametrize(
    ("location", "url", "name"),
    [
        ("milvus://db.example:19531/Handbook", "http://db.example:19531", "Handbook"),
        ("milvus+tls://db.example/kb_2/", "https://db.example:19530", "kb_2"),
        ("milvus://[::1]:7/a", "http://[::1]:7", "a"),
    ],
)
def test_an_address(location: str, url: str, name: str) -> None:
    address = parse_address(location, "milvus", 19530)
    assert (address.url, address.name) == (url, name)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("milvus://host:19530", "NAME is a letter"),
        ("milvus://host/a__b", "NAME is a letter"),
        ("milvus://host/a-b", "NAME is a letter"),
        ("milvus://host/a/b", "NAME is a letter"),
        ("milvus://host/" + "a" * 101, "NAME is a letter"),
        ("milvus:///a", "no address"),
        ("qdrant://host/a", "no address"),
        ("milvus://host:port/a", "write milvus://HOST:PORT/NAME"),
        ("milvus://user:secret@host/a", "BESSEMER_STORE_KEY"),
        ("milvus://host/a?token=secret", "BESSEMER_STORE_KEY"),
    ],
)
def test_what_is_no_address(location: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse_address(location, "milvus", 19530)
    assert "secret" not in str(error.value)
