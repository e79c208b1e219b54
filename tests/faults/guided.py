"""Run one test of `test_fuzz` with inputs that atheris makes, guided by which of our code they reach.

Arguments: the test's name, then libFuzzer's options.
"""

import sys

import atheris

with atheris.instrument_imports(include=["cni", "ipam", "delegates"], enable_loader_override=False):
    import test_fuzz

name, *options = sys.argv[1:]
atheris.Setup([sys.argv[0], *options], getattr(test_fuzz, name).hypothesis.fuzz_one_input)
atheris.Fuzz()
