"""Addresses: what is taken apart comes together again, and nothing that a shell or ssh could mistake gets through."""

import pytest

from edgefold.errors import InputError
from edgefold.runtimes.remote.addresses import Address, is_remote, parse_address
from edgefold.runtimes.remote.connections import ssh_command


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://nvidia@jetson", Address("nvidia", "jetson", None)),
        ("ssh://jetson", Address(None, "jetson", None)),
        ("ssh://a.b-c_d@192.168.55.1:2222", Address("a.b-c_d", "192.168.55.1", 2222)),
        ("ssh://u@[fe80::1]:22", Address("u", "fe80::1", 22)),
        ("ssh://u@h/home/u/venv/bin/python3.8", Address("u", "h", None, "/home/u/venv/bin/python3.8")),
    ],
)
def test_addresses_are_taken_apart(text: str, address: Address) -> None:
    assert is_remote(text)
    assert parse_address(text) == address
    assert str(address) == text.partition("/home")[0]


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh://u@",
        "ssh://@h",
        "ssh://-oProxyCommand=x@h",
        "ssh://u@-oProxyCommand=x",
        "ssh://u:password@h",
        "ssh://u@h:port",
        "ssh://u@h:22/python3; rm -rf x",
        "ssh://u@h/py$(x)",
        "ssh://u@h/a'b",
        "ssh://u@h h",
        "ssh://u@h\n",
        "ssh://u@h?x=1",
        "SSH://u@h",
        "u@h",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no address of the form ssh://user@host"):
        parse_address(text)


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_ports_have_a_range(port: int) -> None:
    with pytest.raises(InputError, match=f"has the port {port}; ports are from 1 to 65535"):
        parse_address(f"ssh://u@h:{port}")


def test_the_command_is_a_list_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", "/a b/config")
    command = ssh_command(parse_address("ssh://u@h:2222/opt/python3"))
    assert command[:3] == ["ssh", "-F", "/a b/config"]
    assert command[-6:-1] == ["-l", "u", "-p", "2222", "h"]
    assert command[-1].startswith("exec /opt/python3 -c '")
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no"):
        assert command[command.index(option) - 1] == "-o"
    monkeypatch.delenv("EDGEFOLD_SSH_CONFIG")
    assert ssh_command(parse_address("ssh://h"))[-2] == "h"
    assert "-F" not in ssh_command(parse_address("ssh://h"))
