"""Make tf2_msgs in this Python environment from its definition, with the generators of the ROS wheels.

PyPI has ROS 2's messages but not tf2_msgs, which /tf needs. Run this with the environment's own Python; it
takes some seconds and needs a C and a C++ compiler. The ``rosidl`` command cannot do this: in these wheels
every generator is registered twice, which it refuses. So this calls the generators' classes one by one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PREFIX = Path(sys.prefix)
os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)  # the generators look for their templates there

import numpy as np  # noqa: E402
from rosidl_generator_c.cli import GenerateC  # noqa: E402
from rosidl_generator_py.cli import GeneratePython  # noqa: E402
from rosidl_generator_type_description.cli import HashTypeDescription  # noqa: E402
from rosidl_typesupport_c.cli import GenerateCTypesupport  # noqa: E402
from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport  # noqa: E402
from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport  # noqa: E402

PACKAGE = "tf2_msgs"
MESSAGE = "msg/TFMessage.idl"
DEFINITION = """\
#include "geometry_msgs/msg/TransformStamped.idl"
module tf2_msgs { module msg { struct TFMessage {
  sequence<geometry_msgs::msg::TransformStamped> transforms;
}; }; };
"""
DEPENDENCIES = ("geometry_msgs", "std_msgs", "builtin_interfaces")
SUPPORT = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
LIBRARY = f"{PACKAGE}_s__rosidl_typesupport_c.so"


def generate(source: Path, output: Path) -> None:
    """Write the sources to ``output/{main,introspection}/tf2_msgs``."""
    (source / "msg").mkdir(parents=True)
    (source / MESSAGE).write_text(DEFINITION)
    main = output / "main" / PACKAGE
    main.mkdir(parents=True)
    # A separate folder: its generator writes a file of the same name as GenerateC, which it would replace.
    introspection = output / "introspection" / PACKAGE
    introspection.mkdir(parents=True)

    interface = [f"{source}:{MESSAGE}"]
    include = [str(PREFIX / "share" / dependency) for dependency in DEPENDENCIES]
    HashTypeDescription("hash").generate_type_hashes(PACKAGE, interface, include, main)
    description = [str((main / MESSAGE).with_suffix(".json"))]
    GenerateC("c").generate(PACKAGE, interface, include, main, type_description_files=description)
    GenerateFastRTPSCTypesupport("fastrtps").generate(PACKAGE, interface, include, main)
    GenerateIntrospectionCTypesupport("introspection").generate(PACKAGE, interface, include, introspection)
    GenerateCTypesupport("c", typesupport_implementations=list(SUPPORT)).generate(
        PACKAGE, interface, include, main
    )
    GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]).generate(
        PACKAGE, interface, include, main
    )


def compile_and_link(output: Path, library: Path) -> None:
    headers = [
        output / "main",
        output / "introspection",
        Path(sysconfig.get_path("include")),
        Path(np.get_include()),
        PREFIX / "include",
        *(folder for folder in (PREFIX / "include").iterdir() if folder.is_dir()),
    ]
    includes = [f"-I{folder}" for folder in headers]
    c_compiler = shlex.split(os.environ.get("CC", "gcc"))
    cpp_compiler = shlex.split(os.environ.get("CXX", "g++"))
    objects = []
    for file in sorted([*output.rglob("*.c"), *output.rglob("*.cpp")]):
        compiler = c_compiler if file.suffix == ".c" else [*cpp_compiler, "-std=gnu++17"]
        objects.append(output / f"{len(objects)}.o")
        subprocess.run([*compiler, "-O2", "-fPIC", *includes, "-c", file, "-o", objects[-1]], check=True)
    parts = ("generator_c", "generator_py", "typesupport_c", *(name[len("rosidl_") :] for name in SUPPORT))
    libraries = [f"-l{dependency}__rosidl_{part}" for dependency in DEPENDENCIES for part in parts]
    libraries += ["-lrosidl_runtime_c", "-lrosidl_typesupport_c", *(f"-l{name}" for name in SUPPORT)]
    libraries += ["-lrosidl_typesupport_fastrtps_cpp", "-lrcutils", "-l:libfastcdr.so.2"]
    search = [f"-L{PREFIX / 'lib'}", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/../../.."]
    subprocess.run([*cpp_compiler, "-shared", *objects, *search, *libraries, "-o", library], check=True)


def install(source: Path, output: Path, library: Path) -> None:
    """Install it where the wheels' messages are: Python files, type supports, definition."""
    generated = output / "main" / PACKAGE
    package = Path(sysconfig.get_path("platlib")) / PACKAGE
    shutil.rmtree(package, ignore_errors=True)
    for file in generated.rglob("*.py"):
        target = package / file.relative_to(generated)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (package / "__init__.py").touch()
    shutil.copy(library, package / LIBRARY)
    for name in SUPPORT:  # the dispatcher looks these names up among the libraries; all are in the one file
        link = PREFIX / "lib" / f"lib{PACKAGE}__{name}.so"
        link.unlink(missing_ok=True)
        link.symlink_to(package / LIBRARY)
    share = PREFIX / "share" / PACKAGE / "msg"
    share.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / MESSAGE, share)
    shutil.copy((generated / MESSAGE).with_suffix(".json"), share)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, output, library = Path(folder, "source"), Path(folder, "output"), Path(folder, LIBRARY)
        generate(source, output)
        compile_and_link(output, library)
        install(source, output, library)
    subprocess.run([sys.executable, "-c", "from tf2_msgs.msg import TFMessage; TFMessage()"], check=True)


if __name__ == "__main__":
    main()
