"""C programs of the tests, compiled against the TensorFlow that is installed: processes without Python."""

import shutil
import subprocess

import tensorflow as tf


def build(source, folder):
    """Compile `source`, a C file, into `folder`; return the program's path."""
    program = folder / source.stem
    library, include = tf.sysconfig.get_lib(), tf.sysconfig.get_include()
    flags = [f"-I{include}", f"-L{library}", f"-Wl,-rpath,{library}"]
    flags += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    flags += ["-fuse-ld=gold"] if shutil.which("ld.gold") else []  # a third of the time for a library of a gigabyte
    subprocess.run(["gcc", "-Wall", "-Werror", "-O1", str(source), "-o", str(program), *flags], check=True)
    return program
