"""RUN to operations: here-documents, security, devices."""

import pytest

from buildfront.dockerfile.instructions import Command, DeviceFlag, From, Heredoc, Run, Shell
from buildfront.errors import BuildError, SourceRange
from buildfront.graph import GraphOptions, build_graph
from buildfront.graph.step_graph import Device, Inline

PLACE = SourceRange("D", 2, 2)


def built(command, *, shell=None, **fields):
    items = [From(PLACE, "FROM scratch", "scratch"), Run(PLACE, "RUN", command, **fields)]
    if shell:
        items.insert(1, Shell(PLACE, "SHELL", shell))
    return build_graph(items, GraphOptions(), {})


def op(line, *documents, **fields):
    return built(Command((line,), True, documents), **fields).steps[-1].op


SH = ("/bin/sh", "-c")
ONE = Heredoc("EOF", "a $x\nb\n", expand=False)
SHEBANG = Heredoc("EOF", "#!/bin/awk -f\nBEGIN {}\n")


@pytest.mark.parametrize(
    ("line", "documents", "argument"),
    [
        ("<<EOF", [ONE], "a $x\nb\n"),
        ("<<EOF", [Heredoc("EOF", "a $PATH\n")], "a $PATH\n"),
        ("<< 'EOF'  ", [ONE], "a $x\nb\n"),
        ('<<"E OF"', [ONE], "a $x\nb\n"),
        ("<<-EOF", [Heredoc("EOF", "\ta\n\t\tb\n", strip_tabs=True)], "a\nb\n"),
        ("3<<EOF", [ONE], "a $x\nb\n"),
        ("<<EOF", [Heredoc("EOF", "")], ""),
        ("cat <<EOF", [ONE], "cat <<EOF\na $x\nb\nEOF"),
        ("<<EOF cat", [ONE], "<<EOF cat\na $x\nb\nEOF"),
        ("cat <<EOF", [SHEBANG], "cat <<EOF\n#!/bin/awk -f\nBEGIN {}\nEOF"),
        ("cat <<-A <<B", [Heredoc("A", "\t1\n"), Heredoc("B", "2\n")], "cat <<-A <<B\n\t1\nA\n2\nB"),
    ],
)
def test_documents_are_the_shells_argument(line, documents, argument):
    made = op(line, *documents)
    assert made.command == (*SH, argument) and made.script is None


def test_a_document_with_an_interpreter_is_a_program():
    found = built(Command(("<<EOF",), True, (SHEBANG,)))
    made = found.steps[-1].op
    assert made.command == (*SH, "/dev/pipes/EOF")
    assert made.script == Inline("EOF", "#!/bin/awk -f\nBEGIN {}\n")
    assert found.target_stage.history[-1].created_by == "RUN /bin/sh -c /dev/pipes/EOF # buildkit"


def test_the_shell_of_the_stage_counts():
    assert op("<<EOF", ONE, shell=("/bin/bash", "-e")).command == ("/bin/bash", "-e", "a $x\nb\n")


def test_tabs_before_an_interpreter():
    made = op("<<-EOF", Heredoc("EOF", "\t#!/bin/sh\n\techo\n", strip_tabs=True))
    assert made.script == Inline("EOF", "#!/bin/sh\necho\n")


def test_a_script_whose_name_is_no_file_name_is_refused():
    with pytest.raises(BuildError, match="can't be a file of that name") as caught:
        op("<<../../x", Heredoc("../../x", "#!/bin/sh\n"))
    assert caught.value.where == PLACE


def test_an_exec_form_has_no_documents():
    assert built(Command(("a", "<<b"), False)).steps[-1].op.command == ("a", "<<b")


def test_a_bare_command_is_an_empty_argument():
    assert built(Command((), True)).steps[-1].op.command == (*SH, "")


def test_security_and_devices():
    devices = (DeviceFlag("vendor.com/gpu=0", required=False), DeviceFlag("vendor.com/gpu=1"))
    made = op("x", security="insecure", devices=devices)
    assert made.security == "insecure"
    assert made.devices == (Device("vendor.com/gpu=0", False), Device("vendor.com/gpu=1", True))
