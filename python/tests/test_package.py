import inspect
import typing

import portknock
import pytest
from portknock import aio


def test_names_are_declared_and_exist():
    assert sorted(portknock.__all__, key=str) == sorted(set(portknock.__all__))
    for module in (portknock, aio):
        for name in module.__all__:
            assert hasattr(module, name)
    public = {
        name for name, value in vars(portknock).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__", "aio"} == set(portknock.__all__)


def test_errors_are_a_family():
    for name, other in [
        ("ConfigError", ValueError),
        ("CaptureError", OSError),
        ("ProbeError", Exception),
        ("KnockError", Exception),
    ]:
        kind = getattr(portknock, name)
        assert issubclass(kind, portknock.PortknockError) and issubclass(kind, other)
        assert kind.__module__ == "portknock"


@pytest.mark.parametrize("name", ["knock", "probe"])
def test_the_awaited_functions_have_the_same_arguments(name):
    plain, awaited = inspect.signature(getattr(portknock, name)), inspect.signature(getattr(aio, name))
    assert plain.parameters == awaited.parameters


def test_every_public_name_has_a_docstring():
    for name in portknock.__all__:
        value = getattr(portknock, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name


def test_hints_can_be_read():
    for kind in (portknock.Step, portknock.Door, portknock.Options, portknock.Diagnostic, portknock.ProbeResult):
        assert typing.get_type_hints(kind)
