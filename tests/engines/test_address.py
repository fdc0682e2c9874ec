"""A Redis URL says everything about the connection, or is refused without showing its password."""

from __future__ import annotations

import pytest

from mainstem.engines.redis.address import Address, parse
from mainstem.errors import ConfigError

SECRET = "s3cr3tw0rd"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://db.example", Address(host="db.example")),
        ("redis://db.example:7000/3", Address(host="db.example", port=7000, db=3)),
        ("redis://:6380", Address(port=6380)),
        ("redis://[::1]:6380/", Address(host="::1", port=6380)),
        ("redis://h?db=4&client_name=worker-1", Address(host="h", db=4, name="worker-1")),
        (
            "redis://h?socket_connect_timeout=0.5&socket_timeout=3",
            Address(host="h", connect_timeout=0.5, reply_timeout=3),
        ),
        ("redis://:p%40ss%2F%3A%23@h", Address(host="h", password="p@ss/:#")),
        ("redis://ann%40corp:pw@h", Address(host="h", username="ann@corp", password="pw")),
        ("redis://nopass@h", Address(host="h", username="nopass")),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        (
            "unix://ann:pw@/run/my%20redis.sock?db=2",
            Address(path="/run/my redis.sock", username="ann", password="pw", db=2),
        ),
        ("rediss://h", Address(host="h", tls=True)),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=false",
            Address(host="h", tls=True, ca_file="/ca.pem", cert_file="/c.pem", key_file="/k.pem", check_hostname=False),
        ),
        ("rediss://h?ssl_cert_reqs=none", Address(host="h", tls=True, verify=False, check_hostname=False)),
        ("rediss://h?ssl_cert_reqs=required", Address(host="h", tls=True)),
    ],
)
def test_a_url_says_where_and_how(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "redis://, rediss:// (TLS) or unix://"),
        ("localhost:6379", "has no scheme"),
        ("http://h", "'http://'"),
        ("redis:h", "has no scheme"),
        ("redis://h:99999", "from 1 to 65535"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:six", "from 1 to 65535"),
        ("redis://[::1", "cannot be read"),
        ("redis://h/one", "not a number"),
        ("redis://h/-1", "not a number"),
        ("redis://h/1?db=2", "twice"),
        ("redis://h?db=1&db=2", "twice"),
        ("redis://h?db=-1", "whole number"),
        ("redis://h?sockettimeout=5", "'sockettimeout' is not an option of a Redis URL: choose from client_name, db,"),
        ("redis://h?socket_timeout=0", "seconds, more than 0"),
        ("redis://h?socket_timeout=nan", "seconds, more than 0"),
        ("redis://h?socket_timeout=inf", "seconds, more than 0"),
        ("redis://h?client_name=a%20b", "without spaces"),
        ("redis://h?ssl_ca_certs=/ca.pem", "use rediss://"),
        ("rediss://h?ssl_cert_reqs=optional", "required, or none"),
        ("rediss://h?ssl_check_hostname=maybe", "true or false"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "remove ssl_cert_reqs=none"),
        ("rediss://h?ssl_keyfile=/k.pem", "ssl_certfile"),
        ("rediss://h?ssl_ca_certs=", "path of a file"),
        ("unix://run/redis.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("redis://h#x", "'#'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_sentence(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(url)
    message = str(refused.value)
    assert says in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("url", [f"redis://ann:{SECRET}@h:7000/1", f"rediss://:{SECRET}@h", f"unix://:{SECRET}@/run/s"])
def test_an_address_never_shows_its_password(url: str) -> None:
    address = parse(url)
    assert address.password == SECRET
    for text in (repr(address), str(address), f"{address}", address.redacted(), address.where):
        assert SECRET not in text
    assert "***" in address.redacted()


def test_the_redacted_url_keeps_the_rest() -> None:
    assert parse(f"redis://ann:{SECRET}@h:7000/1").redacted() == "redis://ann:***@h:7000/1"
    assert parse(f"rediss://:{SECRET}@[::1]").redacted() == "rediss://:***@[::1]:6379/0"
    assert parse("unix:///run/s?db=2").redacted() == "unix:///run/s?db=2"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@h",
        f"redis://:1/{SECRET}@h",
        f"redis://:1#{SECRET}@h",
        f"redis://:1?{SECRET}@h",
        f"redis://:1?{SECRET}@h=1",
        f"redis://:{SECRET}",
        f"redis://ann:{SECRET}@h:port",
        f"redis://ann:{SECRET}@h/one",
        f"redis://ann:{SECRET}@h?nope=1",
        f"redis://ann:{SECRET}@[h",
        f"http://ann:{SECRET}@h",
        f"ann:{SECRET}@h",
        f":{SECRET}@h",
        f"unix://:{SECRET}@run/s",
    ],
)
def test_a_refusal_never_shows_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(url)
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__
